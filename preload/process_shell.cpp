// system() and popen() on a worker.
//
// Libc's own make their child by an internal spawn that no hook sees, so it would have no pid in the session
// and would wait for one when it asks. Here they are made of our posix_spawn (source: system(3p), popen(3p)).
// At home libc's do.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <atomic>

#include "preload/hooks.h"
#include "preload/real.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr char kShell[] = "/bin/sh";

int SpawnShell(const char* command, const posix_spawn_file_actions_t* actions,
               const posix_spawnattr_t* attributes, pid_t* child) {
  const char* arguments[] = {"sh", "-c", "--", command, nullptr};
  return hooks::posix_spawn(child, kShell, actions, attributes, const_cast<char* const*>(arguments), environ);
}

// ---- system
// ------------------------------------------------------------------------------------------------------------

// While the command runs: SIGINT and SIGQUIT ignored, SIGCHLD blocked. Calls that overlap in time share that.
constinit std::atomic<int> running = 0;
constinit struct sigaction interrupt_before = {}, quit_before = {};

struct SignalsHeld {
  sigset_t mask;

  SignalsHeld() {
    struct sigaction ignore = {};
    ignore.sa_handler = SIG_IGN;
    if (running.fetch_add(1) == 0) {
      real::sigaction(SIGINT, &ignore, &interrupt_before);
      real::sigaction(SIGQUIT, &ignore, &quit_before);
    }
    sigset_t child_ended;
    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_ended, &mask);
  }
  ~SignalsHeld() {
    if (running.fetch_sub(1) == 1) {
      real::sigaction(SIGINT, &interrupt_before, nullptr);
      real::sigaction(SIGQUIT, &quit_before, nullptr);
    }
    sigprocmask(SIG_SETMASK, &mask, nullptr);
  }
};

// The command itself gets the caller's signals.
int SpawnCommand(const char* command, const sigset_t& mask, pid_t* child) {
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  if (interrupt_before.sa_handler != SIG_IGN) sigaddset(&defaults, SIGINT);
  if (quit_before.sa_handler != SIG_IGN) sigaddset(&defaults, SIGQUIT);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setsigmask(&attributes, &mask);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  const int error = SpawnShell(command, nullptr, &attributes, child);
  posix_spawnattr_destroy(&attributes);
  return error;
}

int WaitFor(pid_t child, int* status) {
  pid_t waited;
  do {
    waited = hooks::waitpid(child, status, 0);
  } while (waited < 0 && errno == EINTR);
  return waited == child ? 0 : -1;
}

// ---- popen
// -------------------------------------------------------------------------------------------------------------

struct Pipe {
  std::atomic<FILE*> stream;
  pid_t child;
  int descriptor;
};
constexpr int kMaxPipes = 256;
constinit Pipe pipes[kMaxPipes] = {};
FILE* const kReserved = reinterpret_cast<FILE*>(&pipes);

Pipe* ReservePipe() {
  for (Pipe& pipe : pipes) {
    FILE* free_slot = nullptr;
    if (pipe.stream.compare_exchange_strong(free_slot, kReserved)) return &pipe;
  }
  return nullptr;
}

// The child's end becomes its descriptor `target`; streams of earlier popens are closed there (popen(3p)).
int SpawnOnPipe(const char* command, int end, int target, pid_t* child) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const Pipe& pipe : pipes) {
    FILE* stream = pipe.stream.load();
    if (stream != nullptr && stream != kReserved && pipe.descriptor != target)
      posix_spawn_file_actions_addclose(&actions, pipe.descriptor);
  }
  posix_spawn_file_actions_adddup2(&actions, end, target);
  const int error = SpawnShell(command, &actions, nullptr, child);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

FILE* OpenPipe(const char* command, bool reads, bool close_on_exec, Pipe* pipe) {
  int ends[2] = {-1, -1};
  const long made = raw::Syscall(SYS_pipe2, raw::Address(ends), O_CLOEXEC);
  if (made < 0) {
    errno = static_cast<int>(-made);
    return nullptr;
  }
  const int ours = reads ? ends[0] : ends[1], theirs = reads ? ends[1] : ends[0];
  FILE* stream = real::fdopen(ours, reads ? "r" : "w");
  const int error = stream == nullptr ? ENOMEM : SpawnOnPipe(command, theirs, reads ? 1 : 0, &pipe->child);
  raw::Close(theirs);
  if (error != 0) {
    if (stream != nullptr) {
      real::fclose(stream);
    } else {
      raw::Close(ours);
    }
    errno = error;
    return nullptr;
  }
  if (!close_on_exec) raw::Syscall(SYS_fcntl, ours, F_SETFD, 0);
  pipe->descriptor = ours;
  return stream;
}

}  // namespace

namespace hooks {

int system(const char* command) {
  if (command == nullptr) return 1;
  const SignalsHeld held;
  pid_t child;
  int status = 127 << 8;
  if (SpawnCommand(command, held.mask, &child) != 0) return status;
  return WaitFor(child, &status) == 0 ? status : -1;
}

FILE* popen(const char* command, const char* mode) {
  const bool reads = strchr(mode, 'r') != nullptr, writes = strchr(mode, 'w') != nullptr;
  if (reads == writes) {
    errno = EINVAL;
    return nullptr;
  }
  Pipe* pipe = ReservePipe();
  if (pipe == nullptr) {
    errno = EMFILE;
    return nullptr;
  }
  FILE* stream = OpenPipe(command, reads, strchr(mode, 'e') != nullptr, pipe);
  pipe->stream.store(stream);
  return stream;
}

int pclose(FILE* stream) {
  for (Pipe& pipe : pipes) {
    if (stream == nullptr || pipe.stream.load() != stream) continue;
    const pid_t child = pipe.child;
    pipe.stream.store(nullptr);
    real::fclose(stream);
    int status = 0;
    return WaitFor(child, &status) == 0 ? status : -1;
  }
  return real::pclose(stream);
}

}  // namespace hooks
}  // namespace elsewhere::preload
