#include "runtime/launch/summary.h"

#include <unistd.h>

#include "runtime/launch/report_reader.h"

namespace elsewhere::runtime {
namespace {

void Write(const std::string& text) {
  (void)!write(STDERR_FILENO, text.data(), text.size());
}

void SayLines(const std::string& text) {
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    Say(text.substr(begin, end - begin));
    begin = end + 1;
  }
}

}  // namespace

void Say(const std::string& text) {
  Write("elsewhere: " + text + "\n");
}

void PrintReport(const std::string& report, Stats stats) {
  if (stats == Stats::kJson) return Write(report + "\n");
  Result<ReportValues> values = ReadReport(report);
  if (!values.ok()) return Say(values.error().message);
  const std::string figures = stats == Stats::kHuman ? SummaryText(*values) : "";
  SayLines(figures + FallbackText(*values) + NoteText(*values));
}

}  // namespace elsewhere::runtime
