// Preloaded into the tested programs: every fork() is captured and continues in the driver's worker. The
// forked child stays as a deputy that ends like the remote process.

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/rseq.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "preload/capture/capture.h"
#include "preload/capture/context.h"
#include "tests/unit/image/harness.h"

extern "C" {
extern void* __curbrk __attribute__((weak));
}

namespace {

using namespace elsewhere;

bool restored = false;
char note[64];

uint64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000U + static_cast<uint64_t>(now.tv_nsec);
}

int Connect() {
  const int socket_descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, getenv(harness::kSocketVariable), sizeof(address.sun_path) - 1);
  if (connect(socket_descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) _exit(120);
  return socket_descriptor;
}

void EndLike(int status) {
  if (WIFEXITED(status)) _exit(WEXITSTATUS(status));
  const int number = WTERMSIG(status);
  signal(number, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  kill(getpid(), number);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  _exit(121);
}

// Returns only if the child is to run here.
void BeDeputy(const image::Registers& registers, uint64_t fork_time) {
  const int agent = Connect();
  capture::Request request{};
  request.registers = &registers;
  request.arena = atoi(getenv(harness::kArenaVariable));
  request.own_descriptors = &agent;
  request.own_descriptor_count = 1;
  if (__rseq_size != 0) {
    request.rseq =
        reinterpret_cast<uint64_t>(__builtin_thread_pointer()) + static_cast<uint64_t>(__rseq_offset);
    request.rseq_size = 32;
    request.rseq_signature = RSEQ_SIG;
  }
  request.note = note;
  request.note_size = sizeof(note);
  request.curbrk = &__curbrk;
  capture::Result result;
  const uint64_t start = Now();
  capture::Capture(request, &result);
  harness::CaptureMessage message{};
  message.size = result.size;
  message.fork_nanoseconds = fork_time;
  message.capture_nanoseconds = Now() - start;
  std::vector<int> descriptors;
  if (result.problem != nullptr) {
    strncpy(message.problem, result.problem, sizeof(message.problem) - 1);
  } else {
    descriptors.push_back(result.manifest);
    image::Header header;
    if (pread(result.manifest, &header, sizeof(header), 0) != sizeof(header)) _exit(122);
    const auto& section = header.sections[static_cast<uint32_t>(image::Section::kDescriptors)];
    for (uint32_t i = 0; i < section.count; ++i) {
      image::Descriptor entry;
      if (pread(result.manifest, &entry, sizeof(entry),
                static_cast<off_t>(section.offset + i * sizeof(entry))) < 0) {
        _exit(123);
      }
      descriptors.push_back(entry.number);
    }
  }
  if (!harness::Send(agent, &message, sizeof(message), descriptors)) _exit(124);
  harness::EndMessage end;
  if (harness::Receive(agent, &end, sizeof(end), nullptr) != sizeof(end)) _exit(125);
  close(agent);
  if (result.problem == nullptr) close(result.manifest);
  if (end.status != -1) EndLike(end.status);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) pid_t fork() {
  static auto* const real = reinterpret_cast<pid_t (*)()>(dlsym(RTLD_NEXT, "fork"));
  if (restored || getenv(harness::kSocketVariable) == nullptr) return real();
  const uint64_t fork_time = Now();
  sigset_t all;
  sigset_t old;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &old);
  const pid_t pid = real();
  if (pid == 0) {
    image::Registers registers;
    if (elsewhere_context_save(&registers) == 0) {
      BeDeputy(registers, fork_time);
    } else {
      restored = true;
    }
  }
  sigprocmask(SIG_SETMASK, &old, nullptr);
  return pid;
}

// For the tested programs: whether this process was restored, and the note that the agent left.
extern "C" __attribute__((visibility("default"))) int image_test_restored() {
  return restored ? 1 : 0;
}
extern "C" __attribute__((visibility("default"))) const char* image_test_note() {
  return note;
}
