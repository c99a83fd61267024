// The deputy until it is decided where its process runs.
//
//   Hello, Welcome (table, doorbell, arena)     no agent, or it refuses: the child runs here
//   capture                                     not possible: the child runs here, and the agent is told why
//   Capture with manifest and descriptors
//   LetGo -> HasLetGo           the agent has its ends of pipes and sockets (deputy_streams.h)
//   RunLocal -> RunsLocally -> end of file      the child runs here, and the agent has nothing of it any more
//   Started                                     it runs elsewhere: proxy
//   end of file                                 nobody can tell whether it was started: end, with a message.
//   Never twice
//
// All memory is as it was at the fork until the decision, so that returning is being the child. What is
// written before the capture (the table's mapping, the note's room) is part of the image.
#include "preload/deputy_start.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "preload/agent.h"
#include "preload/capture/capture.h"
#include "preload/deputy_streams.h"
#include "preload/descriptor.h"
#include "preload/epoll_image.h"
#include "preload/ipc.h"
#include "preload/memory_discard.h"
#include "preload/packet.h"
#include "preload/proxy/proxy.h"
#include "preload/self.h"
#include "preload/stdio.h"
#include "preload/tracing.h"
#include "preload/write_watch.h"
#include "shim/wire/abi.h"
#include "shim/wire/raw_syscall.h"
#include "shim/wire/signal_watch.h"

extern "C" void* __curbrk;  // libc's record of the break

namespace elsewhere::preload {

namespace {

// Filled in by the restorer of the process's new host.
constinit abi::RestoreNote note = {};

void CloseAll(const int* descriptors, int count) {
  for (int i = 0; i < count; ++i) {
    if (descriptors[i] >= 0) raw::Close(descriptors[i]);
  }
}

// The numbers of [first, first + count) of the manifest's descriptors.
bool ReadNumbers(int manifest, uint32_t first, uint32_t count, int* numbers) {
  image::SectionEntry section{};
  const size_t at = offsetof(image::Header, sections) +
                    sizeof section * static_cast<uint32_t>(image::Section::kDescriptors);
  if (raw::Syscall(SYS_pread64, manifest, raw::Address(&section), sizeof section, raw::Word(at)) !=
      sizeof section)
    return false;
  for (uint32_t i = 0; i < count; ++i) {
    image::Descriptor entry;
    const uint64_t position = section.offset + uint64_t{first + i} * sizeof entry;
    if (raw::Syscall(SYS_pread64, manifest, raw::Address(&entry), sizeof entry, raw::Word(position)) !=
        sizeof entry)
      return false;
    numbers[i] = entry.number;
  }
  return true;
}

bool SendCapture(int socket, const capture::Result& captured, const abi::Capture& packet) {
  int descriptors[abi::kDescriptorsPerPacket + 1] = {captured.manifest};
  uint32_t sent = 0;
  do {
    const uint32_t left = captured.descriptors - sent;
    const uint32_t count = left < abi::kDescriptorsPerPacket ? left : abi::kDescriptorsPerPacket;
    if (sent == 0) {
      if (!ReadNumbers(captured.manifest, 0, count, descriptors + 1)) return false;
      if (SendPacket(socket, &packet, sizeof packet, descriptors, count + 1) < 0) return false;
    } else {
      const abi::PacketHeader header{static_cast<uint32_t>(abi::Packet::kCapture), sizeof header};
      if (!ReadNumbers(captured.manifest, sent, count, descriptors)) return false;
      if (SendPacket(socket, &header, sizeof header, descriptors, count) < 0) return false;
    }
    sent += count;
  } while (sent < captured.descriptors);
  return true;
}

void SendReason(int socket, abi::Packet type, const char* reason) {
  abi::Refused packet{};
  packet.header = {static_cast<uint32_t>(type), sizeof packet};
  const size_t length = strnlen(reason, sizeof packet.reason - 1);
  memcpy(packet.reason, reason, length);
  SendPacket(socket, &packet, sizeof packet, nullptr, 0);
}

// ---- Joining
// ---------------------------------------------------------------------------------------------------------

struct Joined {
  int socket;
  int signals;  // signalfd of all signals
  int arena;
  const abi::Table* table;
};

bool ReceiveWelcome(int socket, int (&descriptors)[3]) {
  abi::Refused packet{};
  const long size = ReceivePacket(socket, &packet, sizeof packet, descriptors, 3);
  return size == sizeof(abi::Welcome) && packet.header.type == static_cast<uint32_t>(abi::Packet::kWelcome) &&
         descriptors[2] >= 0;
}

// Of all signals, and out of the way of the program's numbers: a proxy's message queues keep theirs. -1:
// none.
int OpenSignals() {
  const uint64_t all = ~uint64_t{0};
  const long signals =
      raw::Syscall(SYS_signalfd4, -1, raw::Address(&all), sizeof all, SFD_CLOEXEC | SFD_NONBLOCK);
  if (raw::Failed(signals)) return -1;
  const long high = raw::Syscall(SYS_fcntl, signals, F_DUPFD_CLOEXEC, abi::kFirstOwnDescriptor);
  if (raw::Failed(high)) return static_cast<int>(signals);  // no number is as high as that
  raw::Close(static_cast<int>(signals));
  return static_cast<int>(high);
}

// The agent learns by the watch what cannot be read from the signalfd.
bool SendHello(const Joined& joined, const abi::Hello& hello) {
  const int watch = wire::MakeSignalWatch(joined.signals);
  if (watch < 0) return false;
  const long sent = SendPacket(joined.socket, &hello, sizeof hello, &watch, 1);
  raw::Close(watch);
  return sent >= 0;
}

void Leave(const Joined& joined) {
  raw::Close(joined.signals);
  CloseOwn(joined.socket);
}

bool Join(pid_t parent, Joined* joined) {
  joined->socket = ConnectToAgent(self.agent_socket);
  if (joined->socket < 0) return false;
  joined->signals = OpenSignals();
  abi::Hello hello{};
  hello.header = {static_cast<uint32_t>(abi::Packet::kHello), sizeof hello};
  hello.version = abi::kAbiVersion;
  hello.role = static_cast<uint32_t>(abi::Role::kDeputy);
  hello.pid = static_cast<int32_t>(raw::Syscall(SYS_getpid));
  hello.parent = parent;
  int descriptors[3] = {-1, -1, -1};
  if (joined->signals < 0 || !SendHello(*joined, hello) || !ReceiveWelcome(joined->socket, descriptors)) {
    CloseAll(descriptors, 3);
    Leave(*joined);
    return false;
  }
  joined->table = MapAgentTable(descriptors[0]);
  joined->arena = descriptors[2];
  CloseAll(descriptors, 2);
  return true;
}

// ---- Capture and decision
// ----------------------------------------------------------------------------------------------

// What libc registered for this thread, for the image and for the proxy, which takes it back.
void FindRseq(uint64_t* address, uint32_t* size, uint32_t* signature) {
  if (__rseq_size == 0) return;
  *address = reinterpret_cast<uint64_t>(__builtin_thread_pointer()) + static_cast<uint64_t>(__rseq_offset);
  *size = sizeof(struct rseq);
  *signature = RSEQ_SIG;
}

capture::Result CaptureSelf(const image::Registers& registers, const Joined& joined) {
  // Where the image is restored this number is the program's to use.
  ForgetOwn(joined.socket);
  const int own[] = {joined.socket, joined.signals, self.lifeline};
  capture::Request request{};
  request.registers = &registers;
  request.arena = joined.arena;
  request.own_descriptors = own;
  request.own_descriptor_count = self.lifeline >= 0 ? 3 : 2;
  request.agent_table = joined.table;
  FindRseq(&request.rseq, &request.rseq_size, &request.rseq_signature);
  request.note = &note;
  request.note_size = sizeof note;
  request.mapped_files = mapped_files;
  request.mapped_file_limit = kMappedFiles;
  request.curbrk = &__curbrk;
  const InheritedRecords inherited = TakeRecords();
  request.records = inherited.records;
  request.fork = inherited.fork;
  capture::Result result;
  capture::Capture(request, &result);
  UnmapRecords(inherited);
  return result;
}

// An agent that ends the session has said why, and is about to kill everything, readers and parents first:
// they must not see this end before, which no child of theirs has come to.
[[noreturn]] void EndUndecided(const Joined& joined) {
  constexpr char kMessage[] =
      "elsewhere: the agent is gone; a child that may run elsewhere cannot be run here\n";
  if (joined.table == nullptr || joined.table->header.ending.load(std::memory_order_acquire) == 0) {
    raw::Syscall(SYS_write, 2, raw::Address(kMessage), sizeof kMessage - 1);
  } else {
    const timespec end_takes{10, 0};  // unless the agent is killed in the middle of it
    raw::Syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, raw::Address(&end_takes), 0);
  }
  for (;;) raw::Syscall(SYS_exit_group, 1);
}

// True: runs elsewhere. False: the agent gave the child back, and what it had let go.
bool AwaitDecision(const Joined& joined, const capture::Result& captured) {
  DeputyStreams streams(captured.manifest, captured.descriptors);
  const abi::PacketHeader has_let_go{static_cast<uint32_t>(abi::Packet::kHasLetGo), sizeof has_let_go};
  for (;;) {
    abi::Refused packet{};
    int descriptors[abi::kDescriptorsPerPacket];
    for (int& descriptor : descriptors) descriptor = -1;
    const long size =
        ReceivePacket(joined.socket, &packet, sizeof packet, descriptors, abi::kDescriptorsPerPacket);
    if (size < static_cast<long>(sizeof(abi::PacketHeader))) EndUndecided(joined);
    switch (static_cast<abi::Packet>(packet.header.type)) {
      case abi::Packet::kLetGo:
        streams.LetGo();
        SendPacket(joined.socket, &has_let_go, sizeof has_let_go, nullptr, 0);
        break;
      case abi::Packet::kStarted:
        return true;
      case abi::Packet::kRunLocal:
        if (!streams.TakeBack(descriptors, abi::kDescriptorsPerPacket)) EndUndecided(joined);
        if (streams.complete()) return false;
        break;
      default:
        break;
    }
  }
}

void KeepHere(int socket, const char* reason) {
  SendReason(socket, abi::Packet::kRunsLocally, reason);
}

// Until the agent has closed what it had kept, this one's ends are not its own.
void AwaitEnd(int socket) {
  abi::PacketHeader nothing;
  while (ReceivePacket(socket, &nothing, sizeof nothing, nullptr, 0) > 0) continue;
}

// The child runs elsewhere: nothing but its place in the process tree is needed here.
[[noreturn]] void BecomeProxy(const Joined& joined, int manifest) {
  proxy::Start start{};
  start.socket = joined.socket;
  start.signals = joined.signals;
  start.lifeline = self.lifeline;
  start.manifest = manifest;
  start.agent_socket = self.agent_socket;
  FindRseq(&start.rseq, &start.rseq_size, &start.rseq_signature);
  proxy::Become(start);
  // No memory for a proxy: the agent sees that this process is gone, and ends the child.
  EndUndecided(joined);
}

// Returns if the child is to run here.
void HandOver(const image::Registers& registers, const Joined& joined, uint64_t fork_nanoseconds) {
  if (const char* reason = ReasonToStayHome(); reason != nullptr) return KeepHere(joined.socket, reason);
  if (const char* reason = ReasonOfTracing(); reason != nullptr) return KeepHere(joined.socket, reason);
  if (!CanFollowStdio()) return KeepHere(joined.socket, "the C library's stdio is not known here");
  if (const char* reason = NoteEpolls(); reason != nullptr) return KeepHere(joined.socket, reason);
  abi::Capture packet{};
  packet.header = {static_cast<uint32_t>(abi::Packet::kCapture), sizeof packet};
  packet.fork_nanoseconds = fork_nanoseconds;
  const uint64_t start = NowNanoseconds();
  const capture::Result captured = CaptureSelf(registers, joined);
  if (captured.problem != nullptr) return KeepHere(joined.socket, captured.problem);
  packet.manifest_size = captured.size;
  packet.descriptor_count = captured.descriptors;
  packet.capture_nanoseconds = NowNanoseconds() - start;
  if (!SendCapture(joined.socket, captured, packet)) EndUndecided(joined);
  if (AwaitDecision(joined, captured)) BecomeProxy(joined, captured.manifest);
  raw::Close(captured.manifest);
  KeepHere(joined.socket, "");
  AwaitEnd(joined.socket);
}

}  // namespace

uint64_t NowNanoseconds() {
  timespec now{};
  raw::Syscall(SYS_clock_gettime, CLOCK_MONOTONIC, raw::Address(&now));
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(now.tv_nsec);
}

void BecomeDeputy(const image::Registers& registers, pid_t parent, uint64_t fork_nanoseconds) {
  Joined joined{-1, -1, -1, nullptr};
  if (!Join(parent, &joined)) return UnmapRecords(TakeRecords());
  HandOver(registers, joined, fork_nanoseconds);
  UnmapRecords(TakeRecords());  // where it came to no capture
  raw::Close(joined.arena);
  Leave(joined);
}

void ContinueElsewhere() {
  if (note.magic != abi::kRestoreNoteMagic || note.version != abi::kAbiVersion) {
    constexpr char kMessage[] = "elsewhere: the worker runs another version of elsewhere\n";
    raw::Syscall(SYS_write, 2, raw::Address(kMessage), sizeof kMessage - 1);
    for (;;) raw::Syscall(SYS_exit_group, 127);
  }
  BecomeRestored(note);
  EnterEpollsAgain();
  IpcAfterRestore();
}

}  // namespace elsewhere::preload
