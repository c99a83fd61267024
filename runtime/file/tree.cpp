#include "runtime/file/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <map>

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
    mknod(path.c_str(), (S_ISFIFO(type) || S_ISSOCK(type) ? type & S_IFMT : S_IFREG) | 0600, 0);
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
  if (S_ISDIR(type) && lstat(Join(root, from).c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    // The same directory under another name, for those who have it open or are in it.
    if (lstat(target.c_str(), &status) == 0) Remove(target);
    (void)MakeDirectory(root, file::ParentOf(to));
    if (rename(Join(root, from).c_str(), target.c_str()) == 0) return;
  }
  NameWent(root, from);
  NameCame(root, to, type);
}

}  // namespace elsewhere::runtime::tree
