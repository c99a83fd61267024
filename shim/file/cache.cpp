#include "shim/file/cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "shim/store/s3_sign.h"
#include "shim/wire/local_lock.h"

namespace elsewhere::file {
namespace {

// Of this description, and not by flock, which is for those who have the file open.
bool Lock(int fd, short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = abi::kLocalLocksEnd;
  lock.l_len = 1;
  return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

// Occupied space is looked at when so much of the limit may have been added since.
constexpr uint64_t kLooks = 16;
constexpr uint64_t kOfAnOpen = 4096;
// Private files kept to be found again; and at most, for those of many opens come back together when it is
// looked who is done, and whoever finds none left has one made.
constexpr size_t kSpare = 64, kMostSpare = 4 * kSpare;

Extents DataIn(int fd, uint64_t size) {
  Extents data;
  for (off_t at = 0; uint64_t(at) < size;) {
    off_t from = lseek(fd, at, SEEK_DATA);
    if (from < 0) break;
    off_t to = lseek(fd, from, SEEK_HOLE);
    if (to <= from) break;
    data.Add(uint64_t(from), std::min(uint64_t(to), size));
    at = to;
  }
  return data;
}

}  // namespace

bool PwriteFully(int fd, const char* data, uint64_t size, uint64_t offset) {
  while (size > 0) {
    ssize_t done = pwrite(fd, data, size, off_t(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    data += done;
    offset += uint64_t(done);
    size -= uint64_t(done);
  }
  return true;
}

bool IsAlone(int fd) {
  if (fcntl(fd, F_SETLEASE, F_WRLCK) != 0) return false;
  fcntl(fd, F_SETLEASE, F_UNLCK);
  return true;
}

Result<std::shared_ptr<FileCache>> FileCache::Open(const std::string& directory, uint64_t limit_bytes) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(directory).parent_path(), ignored);
  struct stat status;
  if ((mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) || stat(directory.c_str(), &status) != 0)
    return Error{errno, "file cache " + directory + ": " + strerror(errno)};
  if (!S_ISDIR(status.st_mode)) return Error{ENOTDIR, "file cache " + directory + ": it is no directory"};
  if (status.st_uid != geteuid() || (status.st_mode & 022) != 0)
    return Error{EACCES,
                 "file cache " + directory + ": it must belong to you and be writable by nobody else"};
  std::shared_ptr<FileCache> cache(new FileCache(directory, limit_bytes));
  std::ifstream("/proc/sys/kernel/random/boot_id") >> cache->boot_;
  if (cache->boot_.empty()) cache->boot_ = "unknown-" + std::to_string(getpid());
  cache->Evict(limit_bytes);
  return cache;
}

// One that serves again is written over and only then cut: what is emptied first is sent to the disk by ext4
// when anybody closes it, and its blocks are to be found anew.
Result<store::UniqueFd> FileCache::NewPrivate(std::string_view content) {
  store::UniqueFd spare;
  {
    std::lock_guard lock(mutex_);
    if (spare_.size() >= kSpare) {
      spare = std::move(spare_.front().fd);
      spare_.pop_front();
    }
  }
  if (spare) {
    auto filled = Fill(spare.get(), content, 0);
    if (!filled) return filled.error();
    if (ftruncate(spare.get(), off_t(content.size())) == 0) return spare;
  }
  store::UniqueFd fd(open(directory_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    std::string name = directory_ + "/private.XXXXXX";
    fd.Reset(mkostemp(name.data(), O_CLOEXEC));
    if (fd) unlink(name.c_str());
  }
  if (!fd) return Error{errno, "file cache " + directory_ + ": " + strerror(errno)};
  if (auto filled = Fill(fd.get(), content, 0); !filled) return filled.error();
  return fd;
}

void FileCache::Recycle(store::UniqueFd fd, std::string identity) {
  struct stat status;
  if (!fd || fstat(fd.get(), &status) != 0 || status.st_nlink != 0 ||
      uint64_t(status.st_blocks) * 512 > kSmallFile || !IsAlone(fd.get()))
    return;
  Lock(fd.get(), F_UNLCK);  // of one that was taken out
  std::lock_guard lock(mutex_);
  // Making room takes the oldest in NewPrivate, where its emptiness is needed.
  if (spare_.size() < kMostSpare) spare_.push_back({std::move(fd), std::move(identity)});
}

std::optional<FileCache::Version> FileCache::TakeSpare(const std::string& identity, uint64_t size) {
  std::lock_guard lock(mutex_);
  for (auto spare = spare_.begin(); spare != spare_.end(); ++spare) {
    if (spare->identity != identity) continue;
    Version version{std::move(spare->fd), "", {}};
    version.valid.Add(0, size);
    spare_.erase(spare);
    return version;
  }
  return std::nullopt;
}

std::string FileCache::NameOf(const std::string& identity) const {
  std::string_view whole = identity;
  return directory_ + "/" + boot_ + "." + store::Sha256Hex(std::span(&whole, 1)).substr(0, 40);
}

Result<FileCache::Version> FileCache::OpenVersion(const std::string& identity, uint64_t size) {
  if (size <= kSmallFile)
    if (auto spare = TakeSpare(identity, size)) return std::move(*spare);
  NoteFilled(kOfAnOpen);
  Version version;
  version.name = NameOf(identity);
  version.fd.Reset(open(version.name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  struct stat status;
  if (!version.fd || !Lock(version.fd.get(), F_RDLCK) || fstat(version.fd.get(), &status) != 0) {
    // Just being taken out or not ours: a file without a name serves as well.
    auto fresh = NewPrivate();
    if (!fresh) return fresh.error();
    version = {std::move(*fresh), "", {}};
    status.st_size = 0;
  }
  if (uint64_t(status.st_size) != size && ftruncate(version.fd.get(), off_t(size)) != 0)
    return Error{errno, "file cache " + directory_ + ": " + strerror(errno)};
  if (!version.name.empty()) {
    version.valid = DataIn(version.fd.get(), size);
    futimens(version.fd.get(), nullptr);  // the order of eviction
  }
  return version;
}

bool FileCache::TakeOut(const Version& version) {
  if (version.name.empty()) return true;
  if (!Lock(version.fd.get(), F_WRLCK)) return false;
  struct stat named, open;
  if (stat(version.name.c_str(), &named) == 0 && fstat(version.fd.get(), &open) == 0 &&
      named.st_ino == open.st_ino)
    unlink(version.name.c_str());
  // The lock stays: who opened it by name a moment ago fails to share it and turns away.
  return true;
}

void FileCache::Adopt(int fd, const std::string& identity) {
  std::string name = NameOf(identity), link = "/proc/self/fd/" + std::to_string(fd);
  linkat(AT_FDCWD, link.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW);
  struct stat status;
  if (fstat(fd, &status) == 0) NoteFilled(uint64_t(status.st_blocks) * 512);
}

Status FileCache::Fill(int fd, std::string_view data, uint64_t offset) {
  NoteFilled(data.size());
  if (PwriteFully(fd, data.data(), data.size(), offset)) return Ok{};
  if (errno == ENOSPC || errno == EDQUOT) {
    Evict(0);
    if (PwriteFully(fd, data.data(), data.size(), offset)) return Ok{};
  }
  return Error{errno, "file cache " + directory_ + ": " + strerror(errno)};
}

void FileCache::NoteFilled(uint64_t bytes) {
  if ((filled_ += bytes) < limit_ / kLooks) return;
  filled_ = 0;
  Evict(limit_);
}

// Removes a version file unless somebody has it open: whoever opens it in the middle gets no lock and takes a
// file of its own.
bool FileCache::RemoveUnused(const std::string& name) {
  store::UniqueFd fd(open(name.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  return fd && Lock(fd.get(), F_WRLCK) && unlink(name.c_str()) == 0;
}

void FileCache::Evict(uint64_t limit) {
  struct Candidate {
    int64_t used_ns;
    uint64_t bytes;
    std::string name;
  };
  std::vector<Candidate> candidates;
  uint64_t occupied = 0;
  std::error_code error;
  for (auto& entry : std::filesystem::directory_iterator(directory_, error)) {
    struct stat status;
    if (lstat(entry.path().c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    const std::string name = entry.path().filename();
    if (name == kAttributeTable) continue;
    if (!name.starts_with(boot_)) {
      unlink(entry.path().c_str());  // of an earlier boot
      continue;
    }
    auto bytes = uint64_t(status.st_blocks) * 512;
    occupied += bytes;
    candidates.push_back(
        {int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec, bytes, entry.path()});
  }
  if (occupied <= limit) return;
  std::sort(candidates.begin(), candidates.end(), [](auto& a, auto& b) { return a.used_ns < b.used_ns; });
  for (auto& candidate : candidates) {
    if (occupied <= limit / 10 * 9) return;
    if (RemoveUnused(candidate.name)) occupied -= candidate.bytes;
  }
}

}  // namespace elsewhere::file
