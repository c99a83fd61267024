#include "runtime/file/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <map>

#include "shim/store/unique_fd.h"

namespace elsewhere::runtime::tree {
namespace {

std::string Join(const std::string& root, const std::string& path) {
  return path.empty() ? root : root + "/" + path;
}

mode_t TypeOf(const dirent& entry) {
  return DTTOIF(entry.d_type);
}

void Make(const std::string& path, mode_t type) {
  if (S_ISDIR(type)) {
    mkdir(path.c_str(), 0700);
  } else if (S_ISLNK(type)) {
    (void)!symlink("elsewhere", path.c_str());
  } else {
    // A device that there is none of: everybody may make such a character device, but for old kernels.
    for (const mode_t made : {type & S_IFMT, mode_t{S_IFCHR}, mode_t{S_IFREG}})
      if (mknod(path.c_str(), made | 0600, 0) == 0 || errno != EPERM) return;
  }
}

void Remove(const std::string& path) {
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return;
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

}  // namespace

Status MakeDirectory(const std::string& root, const std::string& path) {
  const std::string whole = Join(root, path);
  struct stat status;
  if (stat(whole.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return Ok{};
  for (size_t at = root.size();; ++at) {
    at = std::min(whole.find('/', at), whole.size());
    const std::string part = whole.substr(0, at);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST)
      return Error{errno, "cannot make " + part + ": " + strerror(errno)};
    // A file or link of that name is one no longer.
    if (lstat(part.c_str(), &status) == 0 && !S_ISDIR(status.st_mode)) {
      unlink(part.c_str());
      mkdir(part.c_str(), 0700);
    }
    if (at == whole.size()) return Ok{};
  }
}

Status List(const std::string& root, const std::string& path,
            const std::vector<file::DirectoryEntry>& entries) {
  if (auto made = MakeDirectory(root, path); !made) return made;
  const std::string whole = Join(root, path);
  std::map<std::string, mode_t> present;
  DIR* directory = opendir(whole.c_str());
  if (directory == nullptr) return Error{errno, "cannot list " + whole + ": " + strerror(errno)};
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") present[name] = TypeOf(*entry);
  }
  closedir(directory);
  for (const auto& entry : entries) {
    const auto found = present.find(entry.name);
    if (found != present.end() && found->second == (entry.type & S_IFMT)) {
      present.erase(found);
      continue;
    }
    if (found != present.end()) {
      Remove(whole + "/" + entry.name);
      present.erase(found);
    }
    Make(whole + "/" + entry.name, entry.type);
  }
  for (const auto& [name, type] : present) Remove(whole + "/" + name);
  return Ok{};
}

void NameCame(const std::string& root, const std::string& path, mode_t type) {
  const std::string whole = Join(root, path);
  struct stat status;
  if (lstat(whole.c_str(), &status) == 0) {
    if ((status.st_mode & S_IFMT) == (type & S_IFMT)) return;
    Remove(whole);
  }
  Make(whole, type);
}

void NameWent(const std::string& root, const std::string& path) {
  if (!path.empty()) Remove(Join(root, path));
}

void NameMoved(const std::string& root, const std::string& from, const std::string& to, mode_t type) {
  if (from == to) return;
  const std::string target = Join(root, to);
  struct stat status;
  if (lstat(Join(root, from).c_str(), &status) == 0 && (status.st_mode & S_IFMT) == (type & S_IFMT)) {
    // The same directory under another name, for those who have it open or are in it; and one event for those
    // who watch.
    if (S_ISDIR(type) && lstat(target.c_str(), &status) == 0) Remove(target);
    if (S_ISDIR(type)) (void)MakeDirectory(root, file::ParentOf(to));
    if (rename(Join(root, from).c_str(), target.c_str()) == 0) return;
  }
  NameWent(root, from);
  NameCame(root, to, type);
}

void ContentChanged(const std::string& root, const std::string& path) {
  store::UniqueFd fd(open(Join(root, path).c_str(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (fd) (void)!pwrite(fd.get(), "", 1, 0);
}

void AttributesChanged(const std::string& root, const std::string& path) {
  utimensat(AT_FDCWD, Join(root, path).c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
}

}  // namespace elsewhere::runtime::tree
