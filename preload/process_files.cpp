#include "preload/process_files.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "preload/children.h"
#include "preload/kernel_call.h"
#include "preload/readable.h"
#include "preload/real.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr char kRoot[] = "/proc/";
constexpr size_t kRootSize = sizeof kRoot - 1;

bool IsDigit(char letter) {
  return letter >= '0' && letter <= '9';
}

// The number at `*text`, which moves behind it; -1: none, or more than a pid can be.
pid_t TakeNumber(const char** text) {
  if (!IsDigit(**text)) return -1;
  int64_t number = 0;
  for (; IsDigit(**text) && number <= INT32_MAX; ++*text) number = number * 10 + (**text - '0');
  return number > INT32_MAX || (**text != '/' && **text != '\0') ? -1 : static_cast<pid_t>(number);
}

// Text in a buffer of fixed size; what does not fit is left out, and said.
class Text {
 public:
  Text(char* to, size_t room) : to_(to), room_(room) { *to_ = '\0'; }
  bool whole() const { return whole_; }
  size_t size() const { return size_; }

  Text& Add(const char* from, size_t size) {
    if (size >= room_ - size_) {
      whole_ = false;
      return *this;
    }
    memcpy(to_ + size_, from, size);
    size_ += size;
    to_[size_] = '\0';
    return *this;
  }
  Text& Add(const char* from) { return Add(from, strlen(from)); }
  Text& Add(pid_t number) {
    char digits[12];
    size_t count = sizeof digits;
    do {
      digits[--count] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number > 0);
    return Add(digits + count, sizeof digits - count);
  }

 private:
  char* to_;
  size_t room_;
  size_t size_ = 0;
  bool whole_ = true;
};

// The directory in which all pids are: of a kernel file system, its root.
bool IsProcRoot(int directory) {
  struct stat there, root;
  return !raw::Failed(raw::Syscall(SYS_newfstatat, directory, raw::Address(directory == AT_FDCWD ? "." : ""),
                                   raw::Address(&there), AT_EMPTY_PATH)) &&
         !raw::Failed(raw::Syscall(SYS_stat, raw::Address("/proc"), raw::Address(&root))) &&
         there.st_dev == root.st_dev && there.st_ino == root.st_ino;
}

// "self", where it is all of a name.
bool IsSelf(const char* name) {
  return strncmp(name, "self", 4) == 0 && (name[4] == '/' || name[4] == '\0');
}

bool BeginsWith(const char* text, const char* beginning) {
  return strncmp(text, beginning, strlen(beginning)) == 0;
}

// Lists of what is shared by name between processes, which is home's kernel's, and the limits of that.
bool IsOfSharedNames(const char* name) {
  for (const char* each : {"sysvipc", "sys/fs/mqueue"}) {
    const char end = BeginsWith(name, each) ? name[strlen(each)] : '?';
    if (end == '/' || end == '\0') return true;
  }
  return BeginsWith(name, "sys/kernel/shm") || BeginsWith(name, "sys/kernel/msg") ||
         BeginsWith(name, "sys/kernel/sem");
}

// The main thread has the process's pid, of which it has two.
bool AddRest(Text& text, const char* rest, pid_t session_pid, pid_t kernel_pid) {
  constexpr char kTasks[] = "/task/";
  const char* after = rest + sizeof kTasks - 1;
  if (strncmp(rest, kTasks, sizeof kTasks - 1) == 0 && TakeNumber(&after) == session_pid) {
    text.Add(kTasks).Add(kernel_pid);
    rest = after;
  }
  return text.Add(rest).whole();
}

// ---- Contents

constexpr size_t kMostText = 4096;

// All of a small file; 0: none.
size_t ReadHere(const char* path, char (&to)[kMostText]) {
  const long fd = raw::Syscall(SYS_open, raw::Address(path), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(fd)) return 0;
  size_t size = 0;
  for (;;) {
    const long got = raw::Read(static_cast<int>(fd), to + size, kMostText - 1 - size);
    if (got <= 0) break;
    size += static_cast<size_t>(got);
  }
  raw::Close(static_cast<int>(fd));
  to[size] = '\0';
  return size;
}

// Behind `count` words and their blanks.
const char* SkipWords(const char* text, int count) {
  for (; count > 0; --count) {
    text += strcspn(text, " ");
    text += strspn(text, " ");
  }
  return text;
}

// "PID (name) state parent group session terminal foreground ...": the five behind the state are home's. The
// name may hold anything.
void TranslateStat(const char* here, const char* home, pid_t shown, Text& to) {
  const char* here_after = strrchr(here, ')');
  const char* home_after = strrchr(home, ')');
  const char* name = strchr(here, ' ');
  if (here_after == nullptr || home_after == nullptr || name == nullptr) {
    to.Add(here);
    return;
  }
  if (shown != 0) {
    to.Add(shown);
  } else {
    to.Add(here, static_cast<size_t>(name - here));
  }
  const char* here_parent = SkipWords(here_after + 2, 1);
  const char* home_parent = SkipWords(home_after + 2, 1);
  to.Add(name, static_cast<size_t>(here_parent - name));
  to.Add(home_parent, static_cast<size_t>(SkipWords(home_parent, 5) - home_parent));
  to.Add(SkipWords(here_parent, 5));
}

// The line that begins as `line` does, or nullptr.
const char* SameLine(const char* text, const char* line) {
  const size_t size = strcspn(line, ":");
  while (*text != '\0') {
    if (strncmp(text, line, size) == 0 && text[size] == ':') return text;
    text += strcspn(text, "\n");
    if (*text == '\n') ++text;
  }
  return nullptr;
}

bool HasPids(const char* line, bool own) {
  for (const char* key : {"PPid:", "NSpgid:", "NSsid:"}) {
    if (BeginsWith(line, key)) return true;
  }
  for (const char* key : {"Tgid:", "Pid:", "NStgid:", "NSpid:"}) {
    if (BeginsWith(line, key)) return own;
  }
  return false;
}

// `own`: also the process's own pids.
void TranslateStatus(const char* here, const char* home, bool own, Text& to) {
  while (*here != '\0') {
    const size_t size = strcspn(here, "\n") + (here[strcspn(here, "\n")] == '\n' ? 1 : 0);
    const char* line = HasPids(here, own) ? SameLine(home, here) : nullptr;
    if (line != nullptr) {
      to.Add(line, strcspn(line, "\n")).Add("\n");
    } else {
      to.Add(here, size);
    }
    here += size;
  }
}

// A descriptor, from its beginning and to be read only, of a memory file; -1: errno. Closes `memory`.
int Reopened(long memory, int flags) {
  char name[40];
  Text(name, sizeof name).Add("/proc/self/fd/").Add(static_cast<pid_t>(memory));
  const long fd = raw::Syscall(SYS_open, raw::Address(name), O_RDONLY | (flags & (O_CLOEXEC | O_NONBLOCK)));
  raw::Close(static_cast<int>(memory));
  if (!raw::Failed(fd)) return static_cast<int>(fd);
  errno = static_cast<int>(-fd);
  return -1;
}

long NewMemory() {
  const long memory = raw::Syscall(SYS_memfd_create, raw::Address("elsewhere-process"), MFD_CLOEXEC);
  if (raw::Failed(memory)) errno = static_cast<int>(-memory);
  return memory;
}

// `stat` or `status` of a process on this host, with pids of the session.
int OpenTranslated(const ProcessPath& found, bool status, int flags) {
  const bool self = found.place == ProcessPath::Place::kSelf;
  char here[kMostText], home[kMostText], text[kMostText], name[40];
  if (ReadHere(found.path, here) == 0) return real::open(found.path, flags, 0);
  Text(name, sizeof name).Add(kRoot).Add(found.session_pid).Add(status ? "/status" : "/stat");
  const int before = errno;
  const int64_t size = ReadAtHome(name, 0, home, sizeof home - 1);
  errno = before;
  home[size > 0 ? size : 0] = '\0';
  Text to(text, sizeof text);
  if (status) {
    TranslateStatus(here, home, !self, to);
  } else {
    TranslateStat(here, home, self ? 0 : found.session_pid, to);
  }
  if (!to.whole()) return real::open(found.path, flags, 0);
  const long memory = NewMemory();
  if (raw::Failed(memory)) return -1;
  raw::Syscall(SYS_write, memory, raw::Address(text), raw::Word(to.size()));
  return Reopened(memory, flags);
}

// A copy of what home's file holds; -2: it is a directory.
int OpenCopy(const char* path, int flags) {
  char piece[kMostText];
  long memory = -1;
  for (int64_t offset = 0;;) {
    const int64_t got = ReadAtHome(path, offset, piece, sizeof piece);
    if (got < 0) {
      const int error = errno;
      if (memory >= 0) raw::Close(static_cast<int>(memory));
      errno = error;
      return error == EISDIR ? -2 : -1;
    }
    if (memory < 0 && raw::Failed(memory = NewMemory())) return -1;
    if (got == 0) return Reopened(memory, flags);
    raw::Syscall(SYS_write, memory, raw::Address(piece), raw::Word(static_cast<uint64_t>(got)));
    offset += got;
  }
}

}  // namespace

bool MayNameProcess(const char* path) {
  if (path == nullptr || !IsReadable(path)) return false;
  if (*path != '/') return IsDigit(*path);
  return strncmp(path, kRoot, kRootSize) == 0 &&
         (IsDigit(path[kRootSize]) || path[kRootSize] == 's' || path[kRootSize] == 't');
}

bool FindProcess(int directory, const char* path, ProcessPath* found) {
  if (!NamesProcess(path)) return false;
  const char* name = *path == '/' ? path + kRootSize : path;
  if (*path != '/' && !IsProcRoot(directory)) return false;
  Text text(found->path, sizeof found->path);
  text.Add(kRoot);
  if (IsSelf(name)) {
    found->place = ProcessPath::Place::kSelf;
    found->session_pid = SessionPid();
    found->rest = name + 4;
    return text.Add("self").Add(found->rest).whole();
  }
  if (IsOfSharedNames(name)) {
    found->place = ProcessPath::Place::kHome;
    found->session_pid = 0;
    found->rest = name;
    return text.Add(name).whole();
  }
  found->rest = name;
  found->session_pid = TakeNumber(&found->rest);
  if (found->session_pid <= 0) return false;
  const pid_t kernel_pid = KernelPidOf(found->session_pid);
  found->place = kernel_pid != 0 ? ProcessPath::Place::kHere : ProcessPath::Place::kHome;
  if (kernel_pid == 0) return text.Add(name).whole();
  text.Add(kernel_pid);
  return AddRest(text, found->rest, found->session_pid, kernel_pid);
}

bool OpenProcessFile(int directory, const char* path, int flags, int* fd) {
  ProcessPath found;
  if (!FindProcess(directory, path, &found)) return false;
  const bool reads = (flags & (O_ACCMODE | O_PATH | O_DIRECTORY)) == O_RDONLY;
  if (found.place != ProcessPath::Place::kHome) {
    const bool stat = strcmp(found.rest, "/stat") == 0, status = strcmp(found.rest, "/status") == 0;
    const bool translated = reads && (stat || status);
    if (!translated && found.place == ProcessPath::Place::kSelf) return false;
    *fd = translated ? OpenTranslated(found, status, flags) : real::open(found.path, flags, 0);
    return true;
  }
  const int before = errno;
  struct stat status;
  if (StatusAtHome(found.path, &status, 0) != 0 && errno == ENOENT) {
    errno = before;
    return false;
  }
  errno = before;
  *fd = reads ? OpenCopy(found.path, flags) : -1;
  if (*fd >= 0) return true;
  if (!reads) errno = EACCES;
  // A directory of another host's kernel can be listed by its path only.
  if (*fd == -2) errno = EACCES;
  *fd = -1;
  return true;
}

int StatusAtHome(const char* path, struct stat* status, int flags) {
  return static_cast<int>(KernelCall(SYS_newfstatat)
                              .Number(AT_FDCWD)
                              .In(path, strlen(path) + 1)
                              .Out(status, sizeof *status)
                              .Number(flags)
                              .Make());
}

int AccessAtHome(const char* path, int mode, int flags) {
  return static_cast<int>(KernelCall(SYS_faccessat2)
                              .Number(AT_FDCWD)
                              .In(path, strlen(path) + 1)
                              .Number(mode)
                              .Number(flags)
                              .Make());
}

ssize_t LinkAtHome(const char* path, char* buffer, size_t room) {
  return static_cast<ssize_t>(KernelCall(SYS_readlinkat)
                                  .Number(AT_FDCWD)
                                  .In(path, strlen(path) + 1)
                                  .Message(buffer, room, 0)
                                  .Number(static_cast<int64_t>(room))
                                  .Make());
}

int64_t ReadAtHome(const char* path, int64_t offset, void* to, size_t room) {
  return KernelCall(abi::DeputyCall::kReadFile)
      .In(path, strlen(path) + 1)
      .Number(offset)
      .Number(static_cast<int64_t>(room))
      .Message(to, room, 0)
      .Make();
}

int64_t ListAtHome(const char* path, void* to, size_t room) {
  return KernelCall(abi::DeputyCall::kListDirectory)
      .In(path, strlen(path) + 1)
      .Number(static_cast<int64_t>(room))
      .Message(to, room, 0)
      .Make();
}

size_t SelfLink(const char* path, char* buffer, size_t room) {
  if (!OnWorker() || path == nullptr || strncmp(path, kRoot, kRootSize) != 0) return 0;
  const bool thread = strcmp(path + kRootSize, "thread-self") == 0;
  if (!thread && strcmp(path + kRootSize, "self") != 0) return 0;
  char link[40];
  Text text(link, sizeof link);
  text.Add(SessionPid());
  const auto id = static_cast<pid_t>(raw::Syscall(SYS_gettid));
  if (thread) text.Add("/task/").Add(id == self.kernel_pid.load() ? SessionPid() : id);
  const size_t size = text.size() < room ? text.size() : room;
  memcpy(buffer, link, size);
  return size;
}

}  // namespace elsewhere::preload
