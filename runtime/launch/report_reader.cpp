#include "runtime/launch/report_reader.h"

#include <array>
#include <cctype>
#include <cstdio>
#include <cstdlib>

namespace elsewhere::runtime {
namespace {

constexpr int kDeepest = 8;

class Reader {
 public:
  Reader(std::string_view text, ReportValues& values) : text_(text), values_(values) {}

  bool ReadAll() {
    if (!ReadValue("", 0)) return false;
    SkipSpace();
    return position_ == text_.size();
  }

 private:
  void SkipSpace() {
    while (position_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[position_])))
      ++position_;
  }

  bool Take(char wanted) {
    SkipSpace();
    if (position_ >= text_.size() || text_[position_] != wanted) return false;
    ++position_;
    return true;
  }

  bool TakeWord(std::string_view word) {
    if (text_.substr(position_, word.size()) != word) return false;
    position_ += word.size();
    return true;
  }

  bool ReadText(std::string& text) {
    if (!Take('"')) return false;
    while (position_ < text_.size() && text_[position_] != '"') {
      if (text_[position_] == '\\' && ++position_ == text_.size()) return false;
      text += text_[position_++];
    }
    return Take('"');
  }

  bool ReadNumber(const std::string& name) {
    size_t end = text_.find_first_not_of("+-.0123456789eE", position_);
    const std::string digits(text_.substr(position_, end - position_));
    char* rest = nullptr;
    double number = std::strtod(digits.c_str(), &rest);
    if (digits.empty() || *rest != '\0') return false;
    position_ += digits.size();
    values_.numbers[name] = number;
    return true;
  }

  bool ReadObject(const std::string& name, int depth) {
    if (Take('}')) return true;
    do {
      std::string key;
      if (!ReadText(key) || !Take(':') || !ReadValue(name.empty() ? key : name + "." + key, depth + 1))
        return false;
    } while (Take(','));
    return Take('}');
  }

  bool ReadArray(const std::string& name, int depth) {
    if (Take(']')) return true;
    size_t index = 0;
    do {
      if (!ReadValue(name + "." + std::to_string(index++), depth + 1)) return false;
    } while (Take(','));
    return Take(']');
  }

  bool ReadValue(const std::string& name, int depth) {
    SkipSpace();
    if (position_ >= text_.size() || depth > kDeepest) return false;
    if (Take('{')) return ReadObject(name, depth);
    if (Take('[')) return ReadArray(name, depth);
    if (text_[position_] == '"') return ReadText(values_.texts[name]);
    if (TakeWord("null") || TakeWord("true") || TakeWord("false")) return true;
    return ReadNumber(name);
  }

  std::string_view text_;
  size_t position_ = 0;
  ReportValues& values_;
};

double Number(const ReportValues& report, const std::string& name) {
  auto found = report.numbers.find(name);
  return found == report.numbers.end() ? 0 : found->second;
}

std::string Megabytes(double bytes) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.1f MB", bytes / 1e6);
  return text.data();
}

std::string Milliseconds(double nanoseconds) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.1f ms", nanoseconds / 1e6);
  return text.data();
}

std::string Count(double number, const char* one, const char* many) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.0f %s", number, number == 1 ? one : many);
  return text.data();
}

std::string ObjectText(const ReportValues& report) {
  constexpr int kMostLines = 20;
  std::string text;
  double others = Number(report, "objects_not_listed");
  for (int index = 0;; ++index) {
    const std::string object = "objects." + std::to_string(index);
    const auto kind = report.texts.find(object + ".kind");
    if (kind == report.texts.end()) break;
    if (index >= kMostLines) {
      ++others;
      continue;
    }
    const auto name = report.texts.find(object + ".name");
    const bool has_name = name != report.texts.end() && !name->second.empty();
    text += kind->second + (has_name ? " " + name->second : "") + ": " +
            Count(Number(report, object + ".here"), "operation", "operations") + " within a host, " +
            Count(Number(report, object + ".across"), "across", "across") + ", blocked " +
            Milliseconds(Number(report, object + ".blocked_nanoseconds")) + "\n";
  }
  if (others > 0) text += Count(others, "more object", "more objects") + " that processes shared\n";
  return text;
}

}  // namespace

Result<ReportValues> ReadReport(std::string_view json) {
  ReportValues values;
  if (!Reader(json, values).ReadAll()) return Error{EBADMSG, "the agent's report is not readable"};
  return values;
}

std::string SummaryText(const ReportValues& report) {
  double remote = Number(report, "forks_remote");
  double home = Number(report, "forks_local");
  std::string text = Count(remote, "child", "children") + " ran on " +
                     Count(Number(report, "workers"), "worker", "workers") + ", " +
                     Count(home, "child", "children") + " at home\n";
  if (remote > 0) {
    double captured = Number(report, "bytes_captured");
    double saved = Number(report, "bytes_deduplicated");
    text += "memory: " + Megabytes(captured) + " captured, " + Megabytes(Number(report, "bytes_shipped")) +
            " shipped, " + Megabytes(saved) + " there already (deduplicated)\n";
    text += "per child:";
    const char* separator = " ";
    for (const char* step : {"capture", "upload", "invoke", "restore", "join"}) {
      text += separator + std::string(step) + " " +
              Milliseconds(Number(report, std::string(step) + "_nanoseconds") / remote);
      separator = ", ";
    }
    text += "\n";
  }
  return text + ObjectText(report);
}

std::string FallbackText(const ReportValues& report) {
  const std::string prefix = "fallbacks.";
  std::string text;
  for (const auto& [name, count] : report.numbers)
    if (name.rfind(prefix, 0) == 0 && count > 0)
      text += Count(count, "child", "children") + " ran at home: " + name.substr(prefix.size()) + "\n";
  return text;
}

std::string NoteText(const ReportValues& report) {
  std::string text;
  for (const auto& [name, line] : report.texts)
    if (name.rfind("notes.", 0) == 0) text += line + "\n";
  return text;
}

}  // namespace elsewhere::runtime
