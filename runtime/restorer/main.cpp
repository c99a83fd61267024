// The zygote's loop and the order in which a child becomes the process of an image.

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "runtime/restorer/child.h"
#include "runtime/restorer/layout.h"

namespace elsewhere::restorer {
namespace {

Zygote zygote;
Job job;
Child child;
int gate[2];  // its end comes when the zygote has closed the job's descriptors

// A child of the agent, so that the agent reaps it; its exit signal is the zygote's own.
long ForkChild() {
  clone_args arguments{};
  arguments.flags = CLONE_PARENT;
  const long pid = raw::Syscall(SYS_clone3, raw::Address(&arguments), sizeof(arguments));
  if (pid != -38 /* ENOSYS: also what sandboxes answer */) return pid;
  return raw::Syscall(SYS_clone, CLONE_PARENT | 17 /* SIGCHLD */);
}

[[noreturn]] void Exit(int status) {
  for (;;) raw::Syscall(SYS_exit_group, status);
}

// The process's ends are its own when it begins: what it closes, or ends with, is seen at once.
void AwaitZygote() {
  uint8_t nothing;
  raw::Close(gate[1]);
  raw::Syscall(SYS_read, gate[0], raw::Address(&nothing), 1);
  raw::Close(gate[0]);
}

[[noreturn]] void Restore() {
  child = {&zygote, &job, {}, kSocket, "", 0, 0};
  // From here and not from the zygote, so that this is on its way before whatever this child reports next.
  const auto pid = static_cast<int>(raw::Syscall(SYS_getpid));
  Report(kSocket, job.request.id, restore::Event::kForked, pid, 0, "");
  bool good = OpenManifest(&child);
  if (good) PlanRuns(&child);
  good = good && MapRegions(&child) && FillRegions(&child);
  AwaitZygote();
  good = good && RestoreMemoryMap(&child) && RestoreState(&child) && RestoreDescriptors(&child);
  if (good) {
    RestoreLimits(&child);
    Enter(&child);
  }
  Report(child.socket, job.request.id, restore::Event::kFailed,
         static_cast<int>(child.error < 0 ? -child.error : 0), child.address, child.step);
  Exit(127);
}

void CloseDescriptors() {
  for (uint32_t i = 0; i < job.received; ++i) raw::Close(job.descriptors[i]);
}

void Serve() {
  const long opened = raw::Syscall(SYS_pipe2, raw::Address(gate), O_CLOEXEC);
  const long pid = raw::Failed(opened) ? opened : ForkChild();
  if (pid == 0) Restore();
  if (raw::Failed(pid)) {
    Report(kSocket, job.request.id, restore::Event::kFailed, static_cast<int>(-pid), 0,
           "the zygote cannot fork");
  }
  CloseDescriptors();
  if (raw::Failed(opened)) return;
  raw::Close(gate[0]);
  raw::Close(gate[1]);
}

void Prepare() {
  raw::Syscall(SYS_prctl, PR_SET_PDEATHSIG, 9);
  const uint64_t all = ~uint64_t{0};
  raw::Syscall(SYS_rt_sigprocmask, 0 /* SIG_BLOCK */, raw::Address(&all), 0, 8);
  raw::Syscall(SYS_close_range, 0, kSocket - 1, 0);
  raw::Syscall(SYS_close_range, kSocket + 1, INT32_MAX, 0);
}

}  // namespace

bool OpenManifest(Child* self) {
  const uint64_t size = self->job->request.manifest_size;
  const long mapped = raw::Syscall(SYS_mmap, kManifest, raw::Word(size), PROT_READ,
                                   MAP_PRIVATE | MAP_POPULATE | MAP_FIXED_NOREPLACE, Source(self, 0), 0);
  if (raw::Failed(mapped)) return Fail(self, "the manifest cannot be mapped", mapped);
  const char* wrong = image::View::Open(reinterpret_cast<const void*>(mapped), size, &self->view);
  return wrong == nullptr || Fail(self, wrong);
}

// The last steps use the image's own stack, below what it uses, and its own code (preload/capture/context.S),
// because ours goes with them.
void Enter(Child* self) {
  const image::Thread& thread = self->view.header().thread;
  struct Last {
    image::Registers registers;
    uint64_t unmapped[4];
  };
  auto* last = reinterpret_cast<Last*>((thread.registers.rsp - 256 - sizeof(Last)) & ~uint64_t{15});
  last->registers = thread.registers;
  last->unmapped[0] = kZoneStart;
  last->unmapped[1] = kZoneEnd - kZoneStart;
  last->unmapped[2] = last->unmapped[3] = 0;
  const uint64_t enter = thread.enter;
  Report(self->socket, self->job->request.id, restore::Event::kEntered, 0, 0, "");
  raw::Close(self->socket);
  __asm__ volatile(
      "movq %0, %%r12\n\t"
      "movq %1, %%r13\n\t"
      "movq %2, %%rax\n\t"
      "movq %0, %%rsp\n\t"
      "jmp *%%rax"
      :
      : "r"(last), "r"(&last->unmapped), "r"(enter)
      : "r12", "r13", "rax", "memory");
  __builtin_unreachable();
}

}  // namespace elsewhere::restorer

extern "C" [[noreturn]] void elsewhere_restorer_main();

void elsewhere_restorer_main() {
  using namespace elsewhere::restorer;
  Prepare();
  if (!Settle(&zygote)) Exit(1);
  for (;;) {
    const Received received = Receive(&job);
    if (received == Received::kClosed) Exit(0);
    if (received == Received::kJob) {
      Serve();
    } else {
      Report(kSocket, job.request.id, elsewhere::restore::Event::kFailed, 22, 0, "the request is malformed");
      CloseDescriptors();
    }
  }
}
