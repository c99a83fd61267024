// What elsewhere itself says to the user, all of it on standard error.
#pragma once

#include <string>

#include "runtime/launch/options.h"

namespace elsewhere::runtime {

// One line of ours.
void Say(const std::string& text);

// The end-of-run summary from the agent's report. Children that ran at home are always named, the rest if
// asked for.
void PrintReport(const std::string& report, Stats stats);

}  // namespace elsewhere::runtime
