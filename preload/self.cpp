#include "preload/self.h"

#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload/agent.h"
#include "preload/children.h"
#include "preload/descriptor.h"
#include "preload/environment.h"
#include "preload/files.h"
#include "preload/kernel_call.h"
#include "preload/output_file.h"
#include "preload/signals.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

constinit Self self{.host = 0,
                    .in_session = false,
                    .may_start_session = false,
                    .fork_remote = false,
                    .kernel_pid = 0,
                    .session_pid = 0,
                    .lifeline = -1,
                    .agent_socket = {},
                    .session = {},
                    .maps = {},
                    .library = {}};

namespace {

int32_t KernelPid() {
  return static_cast<int32_t>(raw::Syscall(SYS_getpid));
}

// Copies a value that fits; false leaves `to` empty.
template <size_t kSize>
bool Copy(char (&to)[kSize], const char* from) {
  const size_t length = from == nullptr ? kSize : strlen(from);
  if (length == 0 || length >= kSize) return false;
  memcpy(to, from, length + 1);
  return true;
}

int32_t Number(const char* text, int32_t otherwise) {
  if (text == nullptr || *text < '0' || *text > '9') return otherwise;
  int64_t value = 0;
  for (; *text >= '0' && *text <= '9' && value < INT32_MAX; ++text) value = value * 10 + (*text - '0');
  return value <= INT32_MAX ? static_cast<int32_t>(value) : otherwise;
}

// The path under which the loader found this object: what LD_PRELOAD of further programs must say.
bool FindLibrary() {
  for (const link_map* object = _r_debug.r_map; object != nullptr; object = object->l_next) {
    if (object->l_ld == _DYNAMIC) return Copy(self.library, object->l_name);
  }
  return false;
}

// "kernel:session", left by the exec hook of a process that is not at home. It holds for the process that
// exec made, not for children that inherited the variable.
void ReadIdentity(const char* identity) {
  const char* colon = identity != nullptr ? strchr(identity, ':') : nullptr;
  if (colon != nullptr && Number(identity, -1) == self.kernel_pid) self.session_pid = Number(colon + 1, 0);
}

// Runs before every other library's constructor, when libc's environ is not set yet: the environment is an
// argument.
__attribute__((constructor)) void ReadEnvironment(int, char**, char** environment) {
  self.kernel_pid = KernelPid();
  const char* lifeline = FindVariable(environment, abi::kEnvLifeline);
  const char* host = FindVariable(environment, abi::kEnvHost);
  const char* fork = FindVariable(environment, abi::kEnvFork);
  self.fork_remote = fork == nullptr || strcmp(fork, "local") != 0;
  const bool can_name_us = FindLibrary();
  self.in_session = can_name_us && Copy(self.agent_socket, FindVariable(environment, abi::kEnvAgent));
  self.may_start_session = can_name_us && !self.in_session && self.fork_remote;
  if (!self.in_session) return;
  Copy(self.session, FindVariable(environment, abi::kEnvSession));
  self.host = static_cast<uint32_t>(Number(host, 0));
  self.lifeline = Number(lifeline, -1);
  if (self.lifeline >= 0 && raw::Syscall(SYS_fcntl, self.lifeline, 1 /* F_GETFD */) >= 0) {
    MarkOwn(self.lifeline);
  } else {
    self.lifeline = -1;
  }
  if (Copy(self.maps, FindVariable(environment, abi::kEnvMaps))) ReadMaps(self.maps);
  if (OnWorker() || HasMaps() || FindVariable(environment, kEnvStreams) != nullptr) FindStreams();
  if (HasMaps()) FilesAfterExec();
  if (OnWorker()) {
    ReadIdentity(FindVariable(environment, kEnvIdentity));
    if (FindVariable(environment, kEnvExecuted) != nullptr) KernelCall(abi::DeputyCall::kExecuted).Make();
  } else {
    self.session_pid.store(self.kernel_pid);
  }
}

}  // namespace

bool InVforkChild() {
  return KernelPid() != self.kernel_pid.load(std::memory_order_relaxed);
}

pid_t SessionPid() {
  const pid_t known = self.session_pid.load(std::memory_order_relaxed);
  if (known != 0) return known;
  const int before = errno;
  const auto answer = static_cast<pid_t>(CallAgent(abi::Operation::kWhoAmI, {}));
  errno = before;
  if (answer <= 0) return self.kernel_pid;
  self.session_pid.store(answer, std::memory_order_relaxed);
  return answer;
}

void ResetSelfAfterFork() {
  const int32_t pid = KernelPid();
  self.kernel_pid = pid;
  self.session_pid = OnWorker() ? 0 : pid;
  ForgetAgentAfterFork();
  ForgetOutputLocks(true);
  ForgetChildren();
}

void BecomeRestored(const abi::RestoreNote& note) {
  self.kernel_pid = KernelPid();
  self.session_pid = note.session_pid;
  self.host = note.host;
  memcpy(self.agent_socket, note.agent_socket, sizeof self.agent_socket);
  self.agent_socket[sizeof self.agent_socket - 1] = '\0';
  if (self.lifeline >= 0) ForgetOwn(self.lifeline);
  self.lifeline = -1;
  TakeAgentAfterRestore(note.doorbell);
  MapsAfterRestore();
  FindStreams();
  ForgetOutputLocks(false);
  ForgetChildren();
  TranslateSignalHandlers();
}

}  // namespace elsewhere::preload
