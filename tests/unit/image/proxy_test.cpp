// Proxies made from a child of the test itself, with the test as their agent.
#include "preload/proxy/proxy.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/rseq.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "preload/capture/capture.h"
#include "preload/capture/context.h"
#include "shim/wire/abi.h"
#include "shim/wire/home_request.h"
#include "tests/unit/image/arena_file.h"

namespace elsewhere {
namespace {

std::string Read(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class ProxyTest : public testing::Test {
 protected:
  void SetUp() override {
    arena_ = harness::MakeArenaFile(64 << 20);
    listener_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_ = testing::TempDir() + "proxy-test-" + std::to_string(getpid());
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    unlink(path_.c_str());
    ASSERT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(listen(listener_, 8), 0);
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    socket_ = pair[0];
    proxy_ = fork();
    if (proxy_ == 0) RunProxy(pair[1]);
    close(pair[1]);
    // An answer to a home call proves that it is a proxy by now.
    ASSERT_EQ(HomeCall(SYS_getpid), proxy_);
  }

  void TearDown() override {
    close(socket_);
    if (!waited_) waitpid(proxy_, nullptr, 0);
    close(listener_);
    close(arena_);
    unlink(path_.c_str());
  }

  [[noreturn]] void RunProxy(int socket) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, nullptr);
    close(socket_);
    image::Registers registers;
    if (elsewhere_context_save(&registers) != 0) _exit(90);
    capture::Request request{};
    request.registers = &registers;
    request.arena = arena_;
    capture::Result result;
    capture::Capture(request, &result);
    if (result.problem != nullptr) _exit(91);
    proxy::Start start{};
    start.socket = socket;
    start.signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    start.lifeline = -1;
    start.manifest = result.manifest;
    start.agent_socket = path_.c_str();
    if (__rseq_size != 0) {
      start.rseq =
          reinterpret_cast<uintptr_t>(__builtin_thread_pointer()) + static_cast<uint64_t>(__rseq_offset);
      start.rseq_size = 32;
      start.rseq_signature = RSEQ_SIG;
    }
    proxy::Become(start);
    _exit(92);
  }

  template <class Packet>
  void Send(int socket, abi::Packet type, Packet packet) {
    packet.header = {static_cast<uint32_t>(type), sizeof packet};
    ASSERT_EQ(send(socket, &packet, sizeof packet, MSG_NOSIGNAL), static_cast<ssize_t>(sizeof packet));
  }

  template <class Packet>
  Packet Receive(int socket, abi::Packet type) {
    Packet packet{};
    pollfd polled{socket, POLLIN, 0};
    EXPECT_EQ(poll(&polled, 1, 5000), 1);
    EXPECT_EQ(recv(socket, &packet, sizeof packet, MSG_DONTWAIT), static_cast<ssize_t>(sizeof packet));
    EXPECT_EQ(packet.header.type, static_cast<uint32_t>(type));
    return packet;
  }

  int64_t HomeCall(long number, int64_t argument = 0) {
    abi::HomePacket call{};
    call.id = 77;
    call.number = number;
    call.arguments[0] = argument;
    Send(socket_, abi::Packet::kHomeCall, call);
    const auto result = Receive<abi::HomePacket>(socket_, abi::Packet::kHomeResult);
    EXPECT_EQ(result.id, 77U);
    return result.result;
  }

  int Wait(int options = 0) {
    int status = -1;
    EXPECT_EQ(waitpid(proxy_, &status, options), proxy_);
    waited_ = WIFEXITED(status) || WIFSIGNALED(status);
    return status;
  }

  std::string path_;
  int arena_ = -1;
  int listener_ = -1;
  int socket_ = -1;
  pid_t proxy_ = -1;
  bool waited_ = false;
};

TEST_F(ProxyTest, HoldsNextToNothing) {
  const std::string rollup = Read("/proc/" + std::to_string(proxy_) + "/smaps_rollup");
  const auto private_dirty = rollup.find("Private_Dirty:");
  ASSERT_NE(private_dirty, std::string::npos);
  EXPECT_LE(std::stoi(rollup.substr(private_dirty + 14)), 24) << rollup;
  // Pages still shared with this test through the fork count too.
  const auto anonymous = rollup.find("Anonymous:");
  EXPECT_LE(std::stoi(rollup.substr(anonymous + 10)), 32) << rollup;
}

TEST_F(ProxyTest, LooksLikeItselfInPs) {
  EXPECT_EQ(Read("/proc/" + std::to_string(proxy_) + "/cmdline"), Read("/proc/self/cmdline"));
  EXPECT_EQ(Read("/proc/" + std::to_string(proxy_) + "/environ"), Read("/proc/self/environ"));
}

TEST_F(ProxyTest, MakesSystemCalls) {
  EXPECT_EQ(HomeCall(SYS_getppid), getpid());
  EXPECT_EQ(HomeCall(SYS_close, 12345), -EBADF);
}

TEST_F(ProxyTest, ForwardsSignals) {
  ASSERT_EQ(kill(proxy_, SIGTERM), 0);
  const auto term = Receive<abi::SignalPacket>(socket_, abi::Packet::kSignal);
  EXPECT_EQ(term.signal, SIGTERM);
  EXPECT_EQ(term.sender, getpid());
  EXPECT_EQ(term.code, SI_USER);
  ASSERT_EQ(sigqueue(proxy_, SIGRTMIN + 1, sigval{.sival_int = 42}), 0);
  const auto queued = Receive<abi::SignalPacket>(socket_, abi::Packet::kSignal);
  EXPECT_EQ(queued.signal, SIGRTMIN + 1);
  EXPECT_EQ(static_cast<int>(queued.value), 42);
}

TEST_F(ProxyTest, StopsAndContinues) {
  // In a group of its own, which is not orphaned: there the kernel would throw the terminal's stop signals
  // away.
  ASSERT_EQ(HomeCall(SYS_setpgid), 0);
  uint32_t continues = 0;
  for (const int signal : {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU}) {
    Send(socket_, abi::Packet::kStop, abi::StopPacket{{}, signal, continues});
    const int status = Wait(WUNTRACED);
    EXPECT_TRUE(WIFSTOPPED(status));
    EXPECT_EQ(WSTOPSIG(status), signal);
    ASSERT_EQ(kill(proxy_, SIGCONT), 0);
    EXPECT_EQ(Receive<abi::SignalPacket>(socket_, abi::Packet::kSignal).signal, SIGCONT);
    EXPECT_TRUE(WIFCONTINUED(Wait(WCONTINUED)));
    ++continues;
  }
}

TEST_F(ProxyTest, DoesNotStopWhenItWasContinuedMeanwhile) {
  ASSERT_EQ(kill(proxy_, SIGCONT), 0);
  EXPECT_EQ(Receive<abi::SignalPacket>(socket_, abi::Packet::kSignal).signal, SIGCONT);
  Send(socket_, abi::Packet::kStop, abi::StopPacket{{}, SIGSTOP, 0});
  EXPECT_EQ(HomeCall(SYS_getpid), proxy_);
}

TEST_F(ProxyTest, ContinuesItsProcessInAnOrphanedGroup) {
  ASSERT_EQ(HomeCall(SYS_setsid), proxy_);
  EXPECT_EQ(HomeCall(static_cast<long>(wire::HomeRequest::kJobSignal), SIGTTIN), -EIO);
  Send(socket_, abi::Packet::kStop, abi::StopPacket{{}, SIGTSTP, 0});
  EXPECT_EQ(Receive<abi::SignalPacket>(socket_, abi::Packet::kSignal).signal, SIGCONT);
  EXPECT_EQ(HomeCall(SYS_getpid), proxy_);
}

TEST_F(ProxyTest, ForwardsWhatACallOfItsOwnSentItBeforeTheAnswer) {
  ASSERT_EQ(HomeCall(SYS_setpgid), 0);
  abi::HomePacket call{};
  call.number = static_cast<int64_t>(wire::HomeRequest::kJobSignal);
  call.arguments[0] = SIGTTOU;
  Send(socket_, abi::Packet::kHomeCall, call);
  EXPECT_EQ(Receive<abi::SignalPacket>(socket_, abi::Packet::kSignal).signal, SIGTTOU);
  EXPECT_EQ(Receive<abi::HomePacket>(socket_, abi::Packet::kHomeResult).result, 0);
}

TEST_F(ProxyTest, EndsByExit) {
  Send(socket_, abi::Packet::kExit, abi::ExitPacket{{}, 42 << 8, 0});
  const int status = Wait();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

TEST_F(ProxyTest, EndsBySignalWithoutCore) {
  Send(socket_, abi::Packet::kExit, abi::ExitPacket{{}, SIGSEGV, 0});
  const int status = Wait();
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGSEGV);
  EXPECT_FALSE(WCOREDUMP(status));
}

TEST_F(ProxyTest, EndsWithItsAgent) {
  close(socket_);
  socket_ = -1;
  const int status = Wait();
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST_F(ProxyTest, ForksDeputiesAndReapsThemSilently) {
  abi::ForkPacket request{};
  request.token = 4711;
  Send(socket_, abi::Packet::kForkDeputy, request);
  const int nested = accept(listener_, nullptr, nullptr);
  ASSERT_GE(nested, 0);
  const auto hello = Receive<abi::Hello>(nested, abi::Packet::kHello);
  EXPECT_EQ(hello.token, 4711U);
  EXPECT_EQ(hello.role, static_cast<uint32_t>(abi::Role::kNestedDeputy));
  EXPECT_EQ(hello.parent, proxy_);
  abi::HomePacket call{};
  call.number = SYS_getppid;
  Send(nested, abi::Packet::kHomeCall, call);
  EXPECT_EQ(Receive<abi::HomePacket>(nested, abi::Packet::kHomeResult).result, proxy_);
  Send(nested, abi::Packet::kExit, abi::ExitPacket{{}, 0, 0});
  char byte;
  EXPECT_EQ(recv(nested, &byte, 1, 0), 0);
  close(nested);
  // It disappears, and no SIGCHLD is forwarded: the next packet is the answer to our next question.
  while (kill(hello.pid, 0) == 0) HomeCall(SYS_getpid);
  EXPECT_EQ(HomeCall(SYS_getpid), proxy_);
}

}  // namespace
}  // namespace elsewhere
