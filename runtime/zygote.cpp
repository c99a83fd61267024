#include "runtime/zygote.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace elsewhere::runtime {
namespace {

constexpr int kRestorerSocket = 3;

Error SystemError(const std::string& what) {
  const int code = errno;
  return Error{code, what + ": " + std::generic_category().message(code)};
}

// Only system calls between fork and exec.
[[noreturn]] void Become(const char* program, int socket, pid_t agent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != agent) _exit(127);
  // Restored processes are born into this group. As their parent, the agent, is of the same session and
  // another group, it is not an orphaned one, in which the kernel would throw the terminal's stop signals
  // away. Whether their real group, at home, is orphaned is seen there.
  setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  // dup2 of a descriptor onto itself would leave it close-on-exec.
  if (socket == kRestorerSocket) fcntl(socket, F_SETFD, 0);
  if (socket != kRestorerSocket && dup2(socket, kRestorerSocket) < 0) _exit(127);
  char* const arguments[] = {const_cast<char*>("elsewhere-restorer"), nullptr};
  char* const environment[] = {nullptr};
  execve(program, arguments, environment);
  _exit(127);
}

}  // namespace

Result<std::unique_ptr<Zygote>> Zygote::Start(EventLoop& loop, const std::string& program, Report on_report,
                                              std::function<void()> on_lost) {
  if (access(program.c_str(), X_OK) != 0) return SystemError("cannot execute " + program);
  std::unique_ptr<Zygote> zygote(new Zygote(loop, std::move(on_report), std::move(on_lost)));
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return SystemError("socketpair");
  zygote->socket_.Reset(pair[0]);
  const store::UniqueFd theirs(pair[1]);
  const pid_t agent = getpid();
  zygote->pid_ = fork();
  if (zygote->pid_ < 0) return SystemError("fork");
  if (zygote->pid_ == 0) Become(program.c_str(), theirs.get(), agent);
  Zygote* self = zygote.get();
  if (auto added = loop.Add(pair[0], EPOLLIN, [self](uint32_t) { self->ReadReports(); }); !added) {
    return added.error();
  }
  return zygote;
}

Zygote::~Zygote() {
  if (socket_) loop_.Remove(socket_.get());
  if (pid_ > 0) kill(pid_, SIGKILL);
}

Status Zygote::Send(const void* bytes, size_t size, const int* descriptors, size_t count) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * restore::kDescriptorsPerPacket)];
  iovec part{const_cast<void*>(bytes), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count != 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    std::memset(control, 0, message.msg_controllen);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    std::memcpy(CMSG_DATA(header), descriptors, sizeof(int) * count);
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return SystemError("the restorer does not take requests");
  return Ok{};
}

Status Zygote::Restore(restore::RestoreRequest request, const std::vector<int>& descriptors,
                       const std::function<void()>& others_sent) {
  request.magic = restore::kRequestMagic;
  request.descriptor_count = static_cast<uint32_t>(descriptors.size());
  size_t sent = std::min<size_t>(descriptors.size() - 1, restore::kDescriptorsPerPacket);
  if (auto done = Send(&request, sizeof request, descriptors.data(), sent); !done) return done;
  while (sent < descriptors.size()) {
    const size_t left = descriptors.size() - sent;
    const size_t count = std::min<size_t>(std::max<size_t>(left - 1, 1), restore::kDescriptorsPerPacket);
    if (left == 1) others_sent();
    const restore::MoreDescriptors more{restore::kMoreMagic, static_cast<uint32_t>(count)};
    if (auto done = Send(&more, sizeof more, descriptors.data() + sent, count); !done) return done;
    sent += count;
  }
  return Ok{};
}

void Zygote::ReadReports() {
  restore::RestoreReport report;
  for (;;) {
    const ssize_t size = recv(socket_.get(), &report, sizeof report, MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return;
    if (size != sizeof report) {
      loop_.Remove(socket_.get());
      return on_lost_();
    }
    report.text[sizeof report.text - 1] = 0;
    on_report_(report);
  }
}

}  // namespace elsewhere::runtime
