#include <cstdio>

#include "runtime/session.h"

namespace elsewhere::runtime {
namespace {

std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      quoted += escape;
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string Counts(const std::map<std::string, uint64_t>& counts) {
  std::string text = "{";
  for (const auto& [name, count] : counts) {
    if (text.size() > 1) text += ',';
    text += Quote(name) + ":" + std::to_string(count);
  }
  return text + "}";
}

std::string Lines(const std::map<std::string, uint64_t>& counts) {
  std::string text = "[";
  for (const auto& [line, count] : counts) {
    if (text.size() > 1) text += ',';
    text += Quote(count > 1 ? line + " (" + std::to_string(count) + " times)" : line);
  }
  return text + "]";
}

std::string Objects(const std::vector<ObjectUse>& objects) {
  std::string text = "[";
  for (const ObjectUse& object : objects) {
    if (text.size() > 1) text += ',';
    text += "{\"kind\":" + Quote(object.kind) + ",\"name\":" + Quote(object.name) +
            ",\"here\":" + std::to_string(object.here) + ",\"across\":" + std::to_string(object.across) +
            ",\"blocked_nanoseconds\":" + std::to_string(object.blocked_nanoseconds) + "}";
  }
  return text + "]";
}

}  // namespace

std::string SessionReport::ToJson() const {
  std::string text = "{";
  const auto number = [&text](const char* name, uint64_t value) {
    text += (text.size() > 1 ? ",\"" : "\"") + std::string(name) + "\":" + std::to_string(value);
  };
  number("forks_remote", forks_remote);
  number("forks_nested", forks_nested);
  number("forks_local", forks_local);
  number("pipes_moved", pipes_moved);
  number("bytes_captured", bytes_captured);
  number("bytes_shipped", bytes_shipped);
  number("bytes_deduplicated", bytes_deduplicated);
  number("bytes_fetched", bytes_fetched);
  number("capture_nanoseconds", capture_nanoseconds);
  number("upload_nanoseconds", upload_nanoseconds);
  number("invoke_nanoseconds", invoke_nanoseconds);
  number("restore_nanoseconds", restore_nanoseconds);
  number("join_nanoseconds", join_nanoseconds);
  number("workers", workers);
  number("objects_not_listed", objects_not_listed);
  return text + ",\"fallbacks\":" + Counts(fallbacks) + ",\"notes\":" + Lines(notes) +
         ",\"objects\":" + Objects(objects) + "}";
}

}  // namespace elsewhere::runtime
