#include "runtime/stream/holder_end.h"

#include <dirent.h>
#include <sys/syscall.h>

#include <cstdlib>
#include <memory>
#include <string_view>

namespace elsewhere::runtime::stream {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

// Calls `each` with the names in a directory that are numbers, until it returns true.
template <class Each>
bool AnyNumber(const std::string& name, Each each) {
  const Directory directory(opendir(name.c_str()));
  while (const dirent* entry = directory == nullptr ? nullptr : readdir(directory.get())) {
    if (*entry->d_name >= '0' && *entry->d_name <= '9' && each(dirfd(directory.get()), entry->d_name))
      return true;
  }
  return false;
}

}  // namespace

Descriptor HolderEnd::Take(const ObjectId& object) const {
  const Descriptor process(static_cast<int>(syscall(SYS_pidfd_open, process_, 0)));
  if (!process) return {};
  Descriptor taken(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), number_, 0)));
  const auto status = taken ? Stat(taken.get()) : Result<struct stat>(Error{0, ""});
  return status && IdOf(*status) == object ? std::move(taken) : Descriptor();
}

Descriptor HolderEnd::Borrow(const ObjectId& object, const std::string& link) {
  Descriptor taken = number_ < 0 ? Descriptor() : Take(object);
  if (taken) return taken;
  const pid_t self = getpid();
  AnyNumber("/proc", [&](int, const char* process) {
    process_ = std::atoi(process);
    if (process_ == self) return false;
    return AnyNumber("/proc/" + std::string(process) + "/fd", [&](int directory, const char* number) {
      char text[64];
      const ssize_t size = readlinkat(directory, number, text, sizeof text);
      if (size <= 0 || std::string_view(text, static_cast<size_t>(size)) != link) return false;
      number_ = std::atoi(number);
      taken = Take(object);
      return static_cast<bool>(taken);
    });
  });
  return taken;
}

}  // namespace elsewhere::runtime::stream
