#include "preload/epoll_image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "preload/descriptor.h"
#include "preload/descriptor_list.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

struct Registration {
  int32_t epoll;
  int32_t fd;
  uint32_t events;
  uint64_t data;
};
constexpr uint32_t kRegistrations = 1024;
constinit Registration registrations[kRegistrations] = {};
constinit uint32_t registration_count = 0;

// "<directory><number>"
void MakeName(char* to, const char* directory, int number) {
  const size_t length = strlen(directory);
  memcpy(to, directory, length);
  char digits[12];
  size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number > 0);
  for (size_t i = 0; i < count; ++i) to[length + i] = digits[count - 1 - i];
  to[length + count] = '\0';
}

bool IsEpoll(int fd) {
  struct stat status;
  if (raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status))) || (status.st_mode & S_IFMT) != 0)
    return false;
  char name[32], link[32];
  MakeName(name, "/proc/self/fd/", fd);
  const long size = raw::Syscall(SYS_readlink, raw::Address(name), raw::Address(link), sizeof link);
  constexpr char kEpoll[] = "anon_inode:[eventpoll]";
  return size == sizeof kEpoll - 1 && memcmp(link, kEpoll, sizeof kEpoll - 1) == 0;
}

// The number behind `word` in a line, in that base; false: the line does not have it.
bool ReadNumber(const char* line, const char* word, unsigned base, uint64_t* number) {
  const char* at = strstr(line, word);
  if (at == nullptr) return false;
  at += strlen(word);
  while (*at == ' ') ++at;
  uint64_t value = 0;
  for (;; ++at) {
    const unsigned digit = *at >= '0' && *at <= '9'   ? static_cast<unsigned>(*at - '0')
                           : *at >= 'a' && *at <= 'f' ? static_cast<unsigned>(*at - 'a') + 10
                                                      : base;
    if (digit >= base) break;
    value = value * base + digit;
  }
  *number = value;
  return true;
}

// A line of /proc/self/fdinfo:  tfd:  5 events:  19 data:  5  pos:0 ino:3fb3 sdev:9
const char* NoteLine(int epoll, const char* line) {
  uint64_t fd = 0, events = 0, data = 0, inode = 0;
  if (!ReadNumber(line, "tfd:", 10, &fd)) return nullptr;
  if (!ReadNumber(line, "events:", 16, &events) || !ReadNumber(line, "data:", 16, &data))
    return "what an epoll instance watches is not known here";
  struct stat status;
  const bool open = !raw::Failed(raw::Syscall(SYS_fstat, raw::Word(fd), raw::Address(&status)));
  if (!open || (ReadNumber(line, "ino:", 16, &inode) && inode != status.st_ino))
    return "an epoll instance watches a descriptor that is closed";
  if (registration_count == kRegistrations) return "its epoll instances watch too many descriptors";
  registrations[registration_count++] = {epoll, static_cast<int32_t>(fd), static_cast<uint32_t>(events),
                                         data};
  return nullptr;
}

const char* NoteEpoll(int epoll) {
  char name[40];
  MakeName(name, "/proc/self/fdinfo/", epoll);
  const long file = raw::Syscall(SYS_open, raw::Address(name), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(file)) return "what an epoll instance watches is not known here";
  char text[4096 + 1];
  size_t length = 0;
  const char* problem = nullptr;
  for (;;) {
    const long got = raw::Syscall(SYS_read, file, raw::Address(text + length), raw::Word(4096 - length));
    if (got <= 0 || problem != nullptr) break;
    length += static_cast<size_t>(got);
    text[length] = '\0';
    char* line = text;
    for (char* end; (end = strchr(line, '\n')) != nullptr; line = end + 1) {
      *end = '\0';
      if (problem == nullptr) problem = NoteLine(epoll, line);
    }
    length -= static_cast<size_t>(line - text);
    memmove(text, line, length);
  }
  raw::Close(static_cast<int>(file));
  return problem;
}

}  // namespace

const char* NoteEpolls() {
  registration_count = 0;
  const char* problem = nullptr;
  ForEachDescriptor([&](int fd) {
    if (problem == nullptr && !IsOwn(fd) && IsEpoll(fd)) problem = NoteEpoll(fd);
  });
  return problem;
}

void EnterEpollsAgain() {
  const int before = errno;
  for (uint32_t i = 0; i < registration_count; ++i) {
    epoll_event event{};
    event.events = registrations[i].events;
    event.data.u64 = registrations[i].data;
    EnterEpollAsleep(registrations[i].epoll, registrations[i].fd, event);
  }
  errno = before;
}

}  // namespace elsewhere::preload
