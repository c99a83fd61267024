#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "bench/file/target.h"

namespace elsewhere::bench {
namespace {

void Check(bool good, const std::string& what) {
  if (!good) Give(what + ": " + strerror(errno));
}

class DirectoryFile final : public OpenFile {
 public:
  DirectoryFile(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  size_t Read(std::span<char> into, uint64_t offset) override {
    size_t done = 0;
    while (done < into.size()) {
      ssize_t got = pread(fd_, into.data() + done, into.size() - done, off_t(offset + done));
      Check(got >= 0, "read " + name_);
      if (got == 0) break;
      done += size_t(got);
    }
    return done;
  }
  void Write(std::string_view data, uint64_t offset) override {
    Check(pwrite(fd_, data.data(), data.size(), off_t(offset)) == ssize_t(data.size()), "write " + name_);
  }
  void Append(std::string_view data) override {
    Check(lseek(fd_, 0, SEEK_END) >= 0, "seek " + name_);
    Check(write(fd_, data.data(), data.size()) == ssize_t(data.size()), "append to " + name_);
  }
  // Mounts send at the flush or the release, which the close may not wait for: fsync says so in any case.
  void Close() override {
    bool wrote = (fcntl(fd_, F_GETFL) & O_ACCMODE) != O_RDONLY;
    Check(!wrote || fsync(fd_) == 0, "fsync " + name_);
    Check(close(fd_) == 0, "close " + name_);
  }

 private:
  const int fd_;
  const std::string name_;
};

class Directory final : public Target {
 public:
  explicit Directory(std::string path) : path_(std::move(path)) {}
  std::unique_ptr<OpenFile> Open(const std::string& name, int flags) override {
    int fd = open((path_ + "/" + name).c_str(), flags | O_CLOEXEC, 0644);
    Check(fd >= 0, "open " + name);
    return std::make_unique<DirectoryFile>(fd, name);
  }
  uint64_t SizeOf(const std::string& name) override {
    struct stat status;
    Check(stat((path_ + "/" + name).c_str(), &status) == 0, "stat " + name);
    return uint64_t(status.st_size);
  }
  void Remove(const std::string& name) override {
    Check(unlink((path_ + "/" + name).c_str()) == 0, "unlink " + name);
  }
  void MakeDirectory(const std::string& name) override {
    Check(mkdir((path_ + "/" + name).c_str(), 0755) == 0 || errno == EEXIST, "mkdir " + name);
  }
  uint64_t Walk(const std::string& name, bool with_stat) override {
    std::string path = path_ + "/" + name;
    DIR* directory = opendir(path.c_str());
    Check(directory, "opendir " + name);
    uint64_t count = 0;
    while (dirent* entry = readdir(directory)) {
      std::string child = entry->d_name;
      if (child == "." || child == "..") continue;
      ++count;
      bool is_directory = entry->d_type == DT_DIR;
      struct stat status;
      if (with_stat || entry->d_type == DT_UNKNOWN) {
        Check(lstat((path + "/" + child).c_str(), &status) == 0, "lstat " + child);
        is_directory = S_ISDIR(status.st_mode);
      }
      if (is_directory) count += Walk(name + "/" + child, with_stat);
    }
    closedir(directory);
    return count;
  }

 private:
  const std::string path_;
};

}  // namespace

std::unique_ptr<Target> OnDirectory(const std::string& path) {
  return std::make_unique<Directory>(path);
}

}  // namespace elsewhere::bench
