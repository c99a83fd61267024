#include "runtime/stream/rebuild.h"

#include <fcntl.h>
#include <mqueue.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "runtime/stream/local_object.h"
#include "shim/wire/stream_mark.h"

namespace elsewhere::runtime::stream {
namespace {

// State of an anonymous descriptor, as /proc/self/fdinfo tells it.
struct State {
  uint64_t value = 0;  // signalfd: mask; anonymous file: size
  std::vector<uint8_t> bytes;
  int32_t seals = -1;  // of an anonymous file; -1: none can be added
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.value, s.bytes, s.seals);
  }
};

// The lines of fdinfo that interest us; false where a line speaks of something that cannot be made anew.
bool ReadLine(Kind kind, const char* line, State& state) {
  unsigned long long number = 0;
  if (kind == Kind::kSignal && sscanf(line, "sigmask: %llx", &number) == 1) state.value = number;
  return !(kind == Kind::kInotify && strncmp(line, "inotify wd:", 11) == 0);
}

Status ReadState(Kind kind, int descriptor, State& state) {
  const std::string path = "/proc/self/fdinfo/" + std::to_string(descriptor);
  FILE* file = fopen(path.c_str(), "re");
  if (file == nullptr) return SystemError(path.c_str());
  char line[512];
  bool movable = true;
  while (movable && fgets(line, sizeof line, file) != nullptr) movable = ReadLine(kind, line, state);
  fclose(file);
  if (movable) return Ok{};
  return Error{ENOTSUP, "an inotify instance with watches cannot move to another host"};
}

Status ReadAnonymousFile(int descriptor, const std::string& link, State& state) {
  const auto status = Stat(descriptor);
  if (!status) return status.error();
  state.value = static_cast<uint64_t>(status->st_size);
  state.seals = fcntl(descriptor, F_GET_SEALS);
  if (state.value > kMaxAnonymousFile) {
    return Error{ENOTSUP, "an unlinked file of " + std::to_string(state.value) + " bytes (" + link +
                              ") cannot move to another host"};
  }
  auto readable = OpenAgain(descriptor, O_RDONLY);
  if (!readable) return readable.error();
  state.bytes.resize(state.value);
  const ssize_t got = pread(readable->get(), state.bytes.data(), state.bytes.size(), 0);
  if (got < 0) return SystemError(link.c_str());
  state.bytes.resize(static_cast<size_t>(got));
  return Ok{};
}

Result<Descriptor> Made(int descriptor, const char* what) {
  if (descriptor < 0) return SystemError(what);
  return Descriptor(descriptor);
}

Result<Descriptor> MakeSignal(const State& state) {
  sigset_t mask;
  sigemptyset(&mask);
  for (int signal = 1; signal <= 64; ++signal) {
    if ((state.value >> (signal - 1) & 1) != 0) sigaddset(&mask, signal);
  }
  auto made = Made(signalfd(-1, &mask, SFD_CLOEXEC), "signalfd");
  if (made && fcntl(made->get(), F_SETSIG, static_cast<int>(wire::StreamMark::kSignals)) != 0) {
    return SystemError("F_SETSIG");
  }
  return made;
}

Result<Descriptor> MakeAnonymousFile(const wire::JobDescriptor& job, const State& state) {
  const unsigned sealing = state.seals < 0 ? 0 : MFD_ALLOW_SEALING;
  auto file = Made(memfd_create("elsewhere-file", MFD_CLOEXEC | sealing), "memfd_create");
  if (!file) return file;
  if (ftruncate(file->get(), static_cast<off_t>(state.value)) != 0) return SystemError("ftruncate");
  if (pwrite(file->get(), state.bytes.data(), state.bytes.size(), 0) !=
      static_cast<ssize_t>(state.bytes.size())) {
    return SystemError("pwrite");
  }
  if (state.seals > 0 && fcntl(file->get(), F_ADD_SEALS, state.seals) != 0) return SystemError("F_ADD_SEALS");
  if ((job.status_flags & O_ACCMODE) == O_RDWR) return file;
  return OpenAgain(file->get(), job.status_flags & O_ACCMODE);
}

Result<Descriptor> OpenByName(const wire::JobDescriptor& job) {
  constexpr int kKept =
      O_ACCMODE | O_APPEND | O_DIRECT | O_DIRECTORY | O_NOATIME | O_NONBLOCK | O_PATH | O_SYNC;
  auto opened =
      Made(open(job.path.c_str(), (job.status_flags & kKept) | O_CLOEXEC | O_NOCTTY), job.path.c_str());
  if (opened || errno != EPERM) return opened;
  return Made(open(job.path.c_str(), (job.status_flags & kKept & ~O_NOATIME) | O_CLOEXEC | O_NOCTTY),
              job.path.c_str());
}

// A stand-in for a queue that the deputy keeps (preload/message_queue.h).
Result<Descriptor> MakeQueue() {
  static uint64_t count = 0;
  const std::string name = "/elsewhere-agent-" + std::to_string(++count);
  mq_attr attributes{};
  attributes.mq_maxmsg = 2;
  attributes.mq_msgsize = 1;
  auto queue =
      Made(mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes), "mq_open");
  if (!queue) return queue;
  mq_unlink(name.c_str());
  fcntl(queue->get(), F_SETSIG, static_cast<int>(wire::StreamMark::kMessageQueue));
  return queue;
}

Result<Descriptor> Make(const wire::JobDescriptor& job, const State& state) {
  switch (static_cast<Kind>(job.kind)) {
    case Kind::kPlainFile:
    case Kind::kReopened:
      return OpenByName(job);
    case Kind::kAnonymousFile:
      return MakeAnonymousFile(job, state);
    case Kind::kSignal:
      return MakeSignal(state);
    case Kind::kEpoll:
      return Made(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    case Kind::kMessageQueue:
      return MakeQueue();
    case Kind::kInotify:
      return Made(inotify_init1(IN_CLOEXEC), "inotify_init1");
    default:
      return Error{EPROTO, "descriptor of unknown kind " + std::to_string(job.kind)};
  }
}

}  // namespace

Status Describe(Kind kind, int descriptor, const std::string& link, wire::JobDescriptor& job) {
  job.kind = static_cast<uint32_t>(kind);
  State state;
  if (kind == Kind::kReopened) {
    job.path = link;
    job.offset = (job.status_flags & O_PATH) != 0 ? 0 : lseek(descriptor, 0, SEEK_CUR);
    return Ok{};
  }
  job.offset = kind == Kind::kAnonymousFile ? lseek(descriptor, 0, SEEK_CUR) : 0;
  Status read = kind == Kind::kAnonymousFile ? ReadAnonymousFile(descriptor, link, state)
                                             : ReadState(kind, descriptor, state);
  if (!read) return read;
  wire::Writer writer;
  writer.Write(state);
  job.extra = writer.Take();
  return Ok{};
}

Result<Descriptor> Rebuild(const wire::JobDescriptor& job) {
  const auto kind = static_cast<Kind>(job.kind);
  State state;
  ObjectTraits traits;
  if (kind != Kind::kPlainFile && kind != Kind::kReopened) {
    wire::Reader reader(job.extra);
    if (job.stream != 0) reader.Read(traits);
    reader.Read(state);
    if (!reader.AtEnd()) return Error{EPROTO, "malformed state of a descriptor"};
  }
  auto made = Make(job, state);
  if (!made) return made;
  if (job.offset > 0 && lseek(made->get(), job.offset, SEEK_SET) < 0) return SystemError("lseek");
  if ((job.status_flags & O_NONBLOCK) != 0 && kind != Kind::kMessageQueue)
    fcntl(made->get(), F_SETFL, fcntl(made->get(), F_GETFL) | O_NONBLOCK);
  return made;
}

}  // namespace elsewhere::runtime::stream
