// Reads the report that the agent sends (runtime/session.h): one JSON object of numbers, texts, and objects
// and arrays of these. No I/O; trusts nothing. Source: RFC 8259, without what the report does not use (\u
// escapes stay as they are).
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "shim/wire/result.h"

namespace elsewhere::runtime {

// "seconds" {"join": 0.1} is found as numbers["seconds.join"], an array's elements as "notes.0", "notes.1",
// ...
struct ReportValues {
  std::map<std::string, double> numbers;
  std::map<std::string, std::string> texts;
};

Result<ReportValues> ReadReport(std::string_view json);

// What `--stats` prints: lines without our name in front; of the objects that processes shared, those that
// were waited for longest. Empty reports are fine.
std::string SummaryText(const ReportValues& report);

// Why children ran at home, a line for each reason; empty if none did.
std::string FallbackText(const ReportValues& report);

// What else the session has to say (a program that could not be followed, an output that failed), a line
// each.
std::string NoteText(const ReportValues& report);

}  // namespace elsewhere::runtime
