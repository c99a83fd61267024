// The agent's side of shim/wire/abi.h, as small as it can be, for testing the preload alone.
//
// Usage: fake_agent HOST COMMAND [ARG...]: runs COMMAND with the preload as a process of that host (0: home)
// and answers its calls. There is one token, whatever semaphore it is taken from. A process's pid in the
// session is its kernel pid + 1000000, whoever asks. Notes and home calls are printed on standard error, one
// line each. Exit status: COMMAND's.
#include <linux/futex.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "shim/wire/abi.h"
#include "shim/wire/arena.h"
#include "shim/wire/semaphore.h"

namespace {

using namespace elsewhere;

constexpr int32_t kShift = 1'000'000;

int table_descriptor, doorbell, arena;
abi::Table* table;

void MakeTable(uint32_t host, const std::string& socket_path) {
  table_descriptor = memfd_create("elsewhere-table", MFD_CLOEXEC);
  if (ftruncate(table_descriptor, sizeof(abi::Table)) != 0) std::abort();
  void* memory = mmap(nullptr, sizeof(abi::Table), PROT_READ | PROT_WRITE, MAP_SHARED, table_descriptor, 0);
  if (memory == MAP_FAILED) std::abort();
  table = static_cast<abi::Table*>(memory);
  table->header.magic = abi::kTableMagic;
  table->header.version = abi::kAbiVersion;
  table->header.host = host;
  std::memcpy(table->header.agent_socket, socket_path.c_str(), socket_path.size() + 1);
  doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  table->header.asleep = 1;
}

void MakeArena() {
  constexpr uint64_t kCapacity = 1 << 30;
  arena = memfd_create("elsewhere-arena", MFD_CLOEXEC);
  if (ftruncate(arena, kCapacity) != 0) std::abort();
  void* memory = mmap(nullptr, kCapacity, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, arena, 0);
  if (memory == MAP_FAILED) std::abort();
  elsewhere::arena::Format(static_cast<elsewhere::arena::ArenaHeader*>(memory), kCapacity, 0);
  munmap(memory, kCapacity);
}

void Name(int32_t kernel_pid) {
  abi::ProcessEntry* entry = &table->processes[abi::ProcessHash(kernel_pid)];
  while (entry->kernel_pid > 0 && entry->kernel_pid != kernel_pid) ++entry;
  entry->session_pid = kernel_pid + kShift;
  entry->kernel_pid = kernel_pid;
}

void SendWelcome(int connection, bool deputy) {
  abi::Welcome welcome{};
  welcome.header = {static_cast<uint32_t>(abi::Packet::kWelcome), sizeof welcome};
  welcome.version = abi::kAbiVersion;
  const int descriptors[] = {table_descriptor, doorbell, arena};
  const size_t size = sizeof(int) * (deputy ? 3 : 2);
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof descriptors)] = {};
  iovec part{&welcome, sizeof welcome};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(size);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(size);
  std::memcpy(CMSG_DATA(header), descriptors, size);
  sendmsg(connection, &message, MSG_NOSIGNAL);
}

void Receive(int connection) {
  union {
    abi::PacketHeader header;
    abi::Hello hello;
    abi::Capture capture;
    abi::Refused refused;
  } packet{};
  if (recv(connection, &packet, sizeof packet, 0) < static_cast<ssize_t>(sizeof packet.header)) return;
  switch (static_cast<abi::Packet>(packet.header.type)) {
    case abi::Packet::kHello:
      Name(packet.hello.pid);
      SendWelcome(connection, packet.hello.role == static_cast<uint32_t>(abi::Role::kDeputy));
      break;
    case abi::Packet::kCapture: {
      if (packet.header.size != sizeof packet.capture) break;  // further descriptors
      std::fprintf(stderr, "captured\n");
      abi::Refused back{};
      back.header = {static_cast<uint32_t>(abi::Packet::kRunLocal), sizeof back};
      send(connection, &back, sizeof back, MSG_NOSIGNAL);
      break;
    }
    case abi::Packet::kRunsLocally:
      std::fprintf(stderr, "runs locally %s\n", packet.refused.reason);
      shutdown(connection, SHUT_RDWR);
      break;
    default:
      break;
  }
}

void Complete(abi::Slot& slot) {
  slot.state = static_cast<uint32_t>(abi::SlotState::kDone);
  syscall(SYS_futex, &slot.state, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

// Named semaphores are promoted from the start. The value that one is made with says what happens to who
// waits:
enum Moment : int64_t {
  kGrantedAtOnce = 0,
  kSignalThenGrant = 1,  // SIGUSR1; granted when the waiter wants to be called off
  kGrantThenSignal = 2,  // SIGUSR1 after the grant, before the waiter has looked at it
};
int64_t tokens = 0;  // posted and not granted, less than 0 where grants came first

void GrantSemaphore(abi::Slot& slot) {
  const auto object = slot.arguments[0];
  const bool cancelled = slot.state == static_cast<uint32_t>(abi::SlotState::kCancelled);
  if (object - 1 == kSignalThenGrant && !cancelled) {
    kill(slot.owner, SIGUSR1);
    return;
  }
  --tokens;
  slot.error = 0;
  slot.result = 0;
  if (object - 1 != kGrantThenSignal) return Complete(slot);
  kill(slot.owner, SIGSTOP);
  siginfo_t stopped{};
  waitid(P_PID, static_cast<id_t>(slot.owner), &stopped, WSTOPPED);
  Complete(slot);
  kill(slot.owner, SIGUSR1);
  kill(slot.owner, SIGCONT);
}

void Answer(abi::Slot& slot) {
  slot.error = ENOSYS;
  slot.result = -1;
  const size_t sent = slot.payload_size;
  slot.payload_size = 0;
  switch (static_cast<abi::Operation>(slot.operation)) {
    case abi::Operation::kWhoAmI:
      Name(slot.owner);
      slot.result = slot.owner + kShift;
      break;
    case abi::Operation::kNestedFork:
      Name(static_cast<int32_t>(slot.arguments[0]));
      slot.result = slot.arguments[0] + kShift;
      break;
    case abi::Operation::kHomeCall:
      std::fprintf(stderr, "home call %ld %ld %ld\n", slot.arguments[0], slot.arguments[1],
                   slot.arguments[2]);
      slot.result = 4242;
      break;
    case abi::Operation::kParent:
      slot.result = 77;
      break;
    case abi::Operation::kKill:
      std::fprintf(stderr, "kill %ld\n", slot.arguments[1]);
      slot.result = 0;
      break;
    case abi::Operation::kUsage: {
      rusage usage{};
      usage.ru_utime.tv_sec = 5;
      std::memcpy(slot.payload, &usage, sizeof usage);
      slot.payload_size = sizeof usage;
      slot.result = 0;
      break;
    }
    case abi::Operation::kPull:  // never answered until it is cancelled
      if (slot.state != static_cast<uint32_t>(abi::SlotState::kCancelled)) return;
      slot.error = EINTR;
      break;
    case abi::Operation::kSemOpen: {
      const int64_t moment = slot.arguments[2];
      auto* word = reinterpret_cast<wire::Semaphore*>(table->cells[moment].word);
      uint32_t count = 0;
      wire::SemaphoreInit(word, 0);
      wire::SemaphorePromote(word, static_cast<uint64_t>(moment) + 1, &count);
      slot.result = moment;
      break;
    }
    case abi::Operation::kSemClose:
      slot.result = 0;
      break;
    case abi::Operation::kSemWait:
    case abi::Operation::kSemTryWait:
      return GrantSemaphore(slot);
    case abi::Operation::kSemPost:
      ++tokens;
      slot.result = 0;
      break;
    case abi::Operation::kSemGetValue:
      slot.result = tokens + 1;
      break;
    case abi::Operation::kNote:
      std::fprintf(stderr, "note: %.*s\n", static_cast<int>(sent), reinterpret_cast<char*>(slot.payload));
      slot.state = static_cast<uint32_t>(abi::SlotState::kFree);
      return;
    default:
      break;
  }
  Complete(slot);
}

void TakeCalls() {
  uint64_t rings;
  if (read(doorbell, &rings, sizeof rings) < 0) return;
  table->header.asleep = 1;  // who comes after this scan rings again
  for (auto& summary : table->header.pending_summary) summary = 0;
  for (uint32_t word = 0; word < abi::kSlotCount / 64; ++word) {
    for (uint64_t bits = table->header.pending[word].exchange(0); bits != 0; bits &= bits - 1) {
      abi::Slot& slot = table->slots[word * 64 + static_cast<uint32_t>(__builtin_ctzll(bits))];
      const bool unheard = slot.unheard != 0;
      Answer(slot);
      if (unheard) slot.state = static_cast<uint32_t>(abi::SlotState::kFree);
    }
  }
}

void SetVariables(const char* host, const std::string& socket_path) {
  setenv(abi::kEnvAgent, socket_path.c_str(), 1);
  setenv(abi::kEnvSession, "0123456789abcdef0123456789abcdef", 1);
  setenv(abi::kEnvHost, host, 1);
  setenv(abi::kEnvPreload, PRELOAD, 1);
}

int SlotsInUse() {
  int count = 0;
  for (const auto& slot : table->slots) count += slot.state != static_cast<uint32_t>(abi::SlotState::kFree);
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 125;
  char directory[] = "/tmp/fake-agent-XXXXXX";
  if (mkdtemp(directory) == nullptr) return 125;
  const std::string path = std::string(directory) + "/agent.sock";
  MakeArena();
  MakeTable(static_cast<uint32_t>(std::atoi(argv[1])), path);
  const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(listener, 64) != 0)
    return 125;

  const pid_t child = fork();
  if (child == 0) {
    SetVariables(argv[1], path);
    execvp(argv[2], argv + 2);
    _exit(127);
  }
  const auto pidfd = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  std::vector<pollfd> polled = {{listener, POLLIN, 0}, {doorbell, POLLIN, 0}, {pidfd, POLLIN, 0}};
  while (polled[2].revents == 0) {
    poll(polled.data(), polled.size(), -1);
    if (polled[1].revents != 0) TakeCalls();
    for (size_t i = 3; i < polled.size(); ++i) {
      if (polled[i].revents == 0) continue;
      if ((polled[i].revents & POLLIN) != 0) Receive(polled[i].fd);
      if ((polled[i].revents & POLLHUP) != 0) {
        close(polled[i].fd);
        polled[i].fd = -1;
      }
    }
    if (polled[0].revents != 0) polled.push_back({accept(listener, nullptr, nullptr), POLLIN, 0});
  }
  int status = 0;
  waitpid(child, &status, 0);
  unlink(path.c_str());
  rmdir(directory);
  std::fprintf(stderr, "slots in use: %d\n", SlotsInUse());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
