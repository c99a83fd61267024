// Hello -> Welcome -> capture -> Capture -> Started (become a proxy) or RunLocal (return).
//
// Freestanding from the first line on: raw system calls, no libc state, little stack (a fork may come from a
// thread with a small one).
#include "preload/deputy.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>

#include "preload/agent.h"
#include "preload/capture/capture.h"
#include "preload/descriptor.h"
#include "preload/proxy/proxy.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"

extern "C" {
// Absent from other C libraries and from glibc before 2.35.
extern void* __curbrk __attribute__((weak));
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));
}

namespace elsewhere::preload {

constinit abi::RestoreNote restore_note{};

namespace {

constexpr uint32_t kRseqSignature = 0x53053053;  // RSEQ_SIG of x86
constexpr uint32_t kRseqSize = 32;  // what glibc registers, whatever part of it the kernel fills in
constexpr uint32_t kDescriptorsPerPacket = 250;

struct Conversation {
  int socket = -1;
  int arena = -1;
  capture::Request request{};
  capture::Result result{};
};

uint64_t Now() {
  timespec now{};
  raw::Syscall(SYS_clock_gettime, CLOCK_MONOTONIC, raw::Address(&now));
  return static_cast<uint64_t>(now.tv_sec) * 1000000000U + static_cast<uint64_t>(now.tv_nsec);
}

bool SendPacket(int socket, const void* packet, size_t size, const int* descriptors, uint32_t count) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kDescriptorsPerPacket)];
  iovec part{const_cast<void*>(packet), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count != 0) {
    auto* header = reinterpret_cast<cmsghdr*>(control);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    auto* numbers = reinterpret_cast<int*>(CMSG_DATA(header));
    for (uint32_t i = 0; i < count; ++i) numbers[i] = descriptors[i];
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
  }
  long result;
  do {
    result = raw::Syscall(SYS_sendmsg, socket, raw::Address(&message), MSG_NOSIGNAL);
  } while (result == -EINTR);
  return result == static_cast<long>(size);
}

bool SayHello(int socket) {
  abi::Hello hello{};
  hello.header = {static_cast<uint32_t>(abi::Packet::kHello), sizeof hello};
  hello.version = abi::kAbiVersion;
  hello.role = static_cast<uint32_t>(abi::Role::kDeputy);
  hello.pid = static_cast<int32_t>(raw::Syscall(SYS_getpid));
  hello.parent = static_cast<int32_t>(raw::Syscall(SYS_getppid));
  return SendPacket(socket, &hello, sizeof hello, nullptr, 0);
}

// Takes the table (mapped, so that the image has it), drops the doorbell, keeps the arena.
bool TakeWelcome(Conversation* conversation) {
  union {
    abi::PacketHeader header;
    abi::Welcome welcome;
    abi::Refused refused;
  } packet;
  int descriptors[3] = {-1, -1, -1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof descriptors)];
  iovec part{&packet, sizeof packet};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  long size;
  do {
    size = raw::Syscall(SYS_recvmsg, conversation->socket, raw::Address(&message), MSG_CMSG_CLOEXEC);
  } while (size == -EINTR);
  const auto* header = reinterpret_cast<const cmsghdr*>(control);
  if (size > 0 && message.msg_controllen >= CMSG_LEN(sizeof(int)) && header->cmsg_type == SCM_RIGHTS) {
    const auto* numbers = reinterpret_cast<const int*>(CMSG_DATA(header));
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count && i < 3; ++i) descriptors[i] = numbers[i];
  }
  const bool welcome = size >= static_cast<long>(sizeof packet.header) &&
                       packet.header.type == static_cast<uint32_t>(abi::Packet::kWelcome) &&
                       descriptors[2] >= 0;
  const abi::Table* table = welcome ? MapAgentTable(descriptors[0]) : nullptr;
  if (descriptors[0] >= 0) raw::Close(descriptors[0]);
  if (descriptors[1] >= 0) raw::Close(descriptors[1]);
  conversation->arena = descriptors[2];
  conversation->request.agent_table = table;
  return table != nullptr;
}

void FillRequest(const image::Registers& registers, Conversation* conversation, const int* own,
                 uint32_t own_count) {
  capture::Request& request = conversation->request;
  request.registers = &registers;
  request.arena = conversation->arena;
  request.own_descriptors = own;
  request.own_descriptor_count = own_count;
  if (&__rseq_size != nullptr && __rseq_size != 0) {
    request.rseq =
        reinterpret_cast<uintptr_t>(__builtin_thread_pointer()) + static_cast<uint64_t>(__rseq_offset);
    request.rseq_size = kRseqSize;
    request.rseq_signature = kRseqSignature;
  }
  request.note = &restore_note;
  request.note_size = sizeof restore_note;
  request.curbrk = &__curbrk;
}

// The numbers of the descriptors to be attached, read back from the manifest.
bool ReadNumbers(int manifest, uint32_t first, uint32_t count, int* numbers) {
  image::SectionEntry section{};
  const auto entry = static_cast<uint64_t>(image::Section::kDescriptors);
  const uint64_t at = offsetof(image::Header, sections) + entry * sizeof section;
  if (raw::Syscall(SYS_pread64, manifest, raw::Address(&section), sizeof section, raw::Word(at)) !=
      static_cast<long>(sizeof section)) {
    return false;
  }
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t offset = section.offset + (first + i) * sizeof(image::Descriptor);
    if (raw::Syscall(SYS_pread64, manifest, raw::Address(&numbers[i]), sizeof(int), raw::Word(offset)) !=
        static_cast<long>(sizeof(int))) {
      return false;
    }
  }
  return true;
}
static_assert(offsetof(image::Descriptor, number) == 0);

// Only the first packet decides anything: if that fails, the agent knows nothing of the capture.
bool SendCapture(const Conversation& conversation, uint64_t fork_nanoseconds, uint64_t started) {
  abi::Capture capture{};
  capture.header = {static_cast<uint32_t>(abi::Packet::kCapture), sizeof capture};
  capture.manifest_size = conversation.result.size;
  capture.descriptor_count = conversation.result.descriptors;
  capture.fork_nanoseconds = fork_nanoseconds;
  capture.capture_nanoseconds = Now() - started;
  int numbers[kDescriptorsPerPacket];
  numbers[0] = conversation.result.manifest;
  uint32_t filled = 1;
  uint32_t sent = 0;
  do {
    const uint32_t room = kDescriptorsPerPacket - filled;
    const uint32_t left = conversation.result.descriptors - sent;
    const uint32_t count = left < room ? left : room;
    if (!ReadNumbers(conversation.result.manifest, sent, count, numbers + filled)) return false;
    if (!SendPacket(conversation.socket, &capture, sizeof capture, numbers, filled + count)) return false;
    sent += count;
    filled = 0;
  } while (sent < conversation.result.descriptors);
  return true;
}

enum class Verdict { kStarted, kRunLocal, kLost };

Verdict AwaitVerdict(int socket) {
  for (;;) {
    union {
      abi::PacketHeader header;
      abi::Refused refused;
    } packet;
    const long size = raw::Read(socket, &packet, sizeof packet);
    if (size < static_cast<long>(sizeof packet.header)) return Verdict::kLost;
    if (packet.header.type == static_cast<uint32_t>(abi::Packet::kStarted)) return Verdict::kStarted;
    if (packet.header.type == static_cast<uint32_t>(abi::Packet::kRunLocal)) return Verdict::kRunLocal;
    if (packet.header.type == static_cast<uint32_t>(abi::Packet::kRefused)) return Verdict::kRunLocal;
  }
}

[[noreturn]] void EndUndecided() {
  static constexpr char kMessage[] =
      "elsewhere: the agent was lost while a child was being started; the child ends\n";
  raw::Syscall(SYS_write, 2, raw::Address(kMessage), sizeof kMessage - 1);
  for (;;) raw::Syscall(SYS_kill, raw::Syscall(SYS_getpid), SIGKILL);
}

void BecomeProxy(const Conversation& conversation) {
  proxy::Start start{};
  start.socket = conversation.socket;
  start.lifeline = self.lifeline;
  start.manifest = conversation.result.manifest;
  start.agent_socket = self.agent_socket;
  start.rseq = conversation.request.rseq;
  start.rseq_size = conversation.request.rseq_size;
  start.rseq_signature = conversation.request.rseq_signature;
  proxy::Become(start);
  EndUndecided();  // the child runs, and nobody can stand for it
}

// Says why, so that the summary can.
void TellProblem(const Conversation& conversation) {
  abi::Refused packet{};
  packet.header = {static_cast<uint32_t>(abi::Packet::kRunsLocally), sizeof packet};
  const char* problem = conversation.result.problem;
  for (size_t i = 0; problem != nullptr && problem[i] != '\0' && i + 1 < sizeof packet.reason; ++i) {
    packet.reason[i] = problem[i];
  }
  SendPacket(conversation.socket, &packet, sizeof packet, nullptr, 0);
}

void Converse(const image::Registers& registers, uint64_t fork_nanoseconds, Conversation* conversation) {
  if (!SayHello(conversation->socket) || !TakeWelcome(conversation)) return;
  const uint64_t started = Now();
  const int own[] = {conversation->socket, self.lifeline};
  FillRequest(registers, conversation, own, 2);
  capture::Capture(conversation->request, &conversation->result);
  if (conversation->result.problem != nullptr) return TellProblem(*conversation);
  if (!SendCapture(*conversation, fork_nanoseconds, started)) return;
  switch (AwaitVerdict(conversation->socket)) {
    case Verdict::kStarted:
      BecomeProxy(*conversation);
      return;
    case Verdict::kLost:
      EndUndecided();
    case Verdict::kRunLocal:
      TellProblem(*conversation);
  }
}

}  // namespace

void BeDeputy(const image::Registers& registers, uint64_t fork_nanoseconds) {
  Conversation conversation;
  conversation.result.manifest = -1;
  conversation.socket = ConnectToAgent(self.agent_socket);
  if (conversation.socket < 0) return;
  Converse(registers, fork_nanoseconds, &conversation);
  if (conversation.arena >= 0) raw::Close(conversation.arena);
  if (conversation.result.manifest >= 0) raw::Close(conversation.result.manifest);
  CloseOwn(conversation.socket);
}

}  // namespace elsewhere::preload
