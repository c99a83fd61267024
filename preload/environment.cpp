#include "preload/environment.h"

#include <string.h>

#include "preload/files.h"
#include "preload/kernel_call.h"
#include "preload/self.h"
#include "preload/stream.h"

namespace elsewhere::preload {
namespace {

// Appends to the text block; there is room (MeasureEnvironment).
class Text {
 public:
  explicit Text(char* position) : position_(position) {}
  char* position() const { return position_; }

  Text& Add(const char* text) {
    const size_t length = strlen(text);
    memcpy(position_, text, length);
    position_ += length;
    return *this;
  }
  Text& Add(int64_t number) {
    char digits[24];
    size_t count = 0;
    do {
      digits[count++] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number > 0);
    while (count > 0) *position_++ = digits[--count];
    return *this;
  }
  void End() { *position_++ = '\0'; }

 private:
  char* position_;
};

bool Names(const char* entry, const char* name) {
  const size_t length = strlen(name);
  return strncmp(entry, name, length) == 0 && entry[length] == '=';
}

bool IsOwnVariable(const char* entry) {
  for (const char* name : {abi::kEnvAgent, abi::kEnvSession, abi::kEnvLifeline, abi::kEnvHost, abi::kEnvFork,
                           abi::kEnvMaps, abi::kEnvPreload, kEnvIdentity, kEnvExecuted, kEnvStreams}) {
    if (Names(entry, name)) return true;
  }
  return false;
}

// Does a list as LD_PRELOAD has it (blanks or colons between) name `library`?
bool Lists(const char* list, const char* library) {
  const size_t length = strlen(library);
  while (*list != '\0') {
    const size_t entry = strcspn(list, " :");
    if (entry == length && strncmp(list, library, length) == 0) return true;
    list += entry;
    list += strspn(list, " :");
  }
  return false;
}

void AddPreload(Text& text, const char* others) {
  text.Add(abi::kEnvPreload).Add("=");
  if (others != nullptr && Lists(others, self.library)) {
    text.Add(others);
  } else {
    text.Add(self.library);
    if (others != nullptr && *others != '\0') text.Add(":").Add(others);
  }
  text.End();
}

}  // namespace

const char* FindVariable(char* const* environment, const char* name) {
  if (environment == nullptr) return nullptr;
  for (; *environment != nullptr; ++environment) {
    if (Names(*environment, name)) return *environment + strlen(name) + 1;
  }
  return nullptr;
}

EnvironmentSize MeasureEnvironment(char* const* environment) {
  if (!self.in_session) return {0, 0};
  size_t entries = kOwnVariables + 1;
  for (char* const* entry = environment; entry != nullptr && *entry != nullptr; ++entry) ++entries;
  const char* others = FindVariable(environment, abi::kEnvPreload);
  const size_t preload =
      sizeof(abi::kEnvPreload) + 2 + strlen(self.library) + (others != nullptr ? strlen(others) : 0);
  const size_t maps = HasMaps() ? sizeof(abi::kEnvMaps) + 2 + strlen(self.maps) : 0;
  return {entries, kOwnVariablesSize + preload + maps};
}

void BuildEnvironment(char* const* environment, char** entries, char* bytes) {
  Text text(bytes);
  const auto add = [&](auto fill) {
    *entries++ = text.position();
    fill();
  };
  add([&] { AddPreload(text, FindVariable(environment, abi::kEnvPreload)); });
  add([&] { text.Add(abi::kEnvAgent).Add("=").Add(self.agent_socket).End(); });
  add([&] { text.Add(abi::kEnvSession).Add("=").Add(self.session).End(); });
  add([&] { text.Add(abi::kEnvHost).Add("=").Add(self.host.load()).End(); });
  if (HasMaps()) add([&] { text.Add(abi::kEnvMaps).Add("=").Add(self.maps).End(); });
  if (!self.fork_remote) add([&] { text.Add(abi::kEnvFork).Add("=local").End(); });
  if (self.lifeline >= 0) add([&] { text.Add(abi::kEnvLifeline).Add("=").Add(self.lifeline).End(); });
  if (OnWorker() && self.session_pid != 0) {
    add([&] { text.Add(kEnvIdentity).Add("=").Add(self.kernel_pid).Add(":").Add(self.session_pid).End(); });
  }
  if (OnWorker() && HasKernelObjects()) add([&] { text.Add(kEnvExecuted).Add("=1").End(); });
  if (!OnWorker() && HasStreams()) add([&] { text.Add(kEnvStreams).Add("=1").End(); });
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    if (!IsOwnVariable(*environment)) *entries++ = *environment;
  }
  *entries = nullptr;
}

}  // namespace elsewhere::preload
