// `elsewhere doctor`: one line for each thing that a session needs or uses, and what happens without it.
#pragma once

#include "runtime/launch/options.h"

namespace elsewhere::runtime {

// Returns 0 when a session can run, else 1. Prints on standard output.
int RunDoctor(const Options& options);

}  // namespace elsewhere::runtime
