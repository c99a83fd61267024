#include "runtime/launch/session_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <optional>

namespace elsewhere::runtime {
namespace {

constexpr char kPrefix[] = "elsewhere-";
constexpr char kNewPrefix[] = ".elsewhere-new-";
constexpr size_t kIdSize = 32;
constexpr size_t kLongestBase = 50;      // sun_path has 108 bytes, and our names need some 55,
constexpr size_t kLongestRootBase = 28;  // root's some 78 (session.h)
constexpr size_t kSecretSize = 16;
constexpr uint64_t kLeastRoom = 256ULL << 20;
constexpr time_t kHalfMadeSeconds = 60;

Error SystemError(const std::string& what, int code = errno) {
  return {code, what + ": " + std::strerror(code)};
}

int OpenLock(const std::string& directory, int flags) {
  return open((directory + "/lock").c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
}

bool IsTmpfsWithRoom(const std::string& path) {
  struct statfs status;
  return statfs(path.c_str(), &status) == 0 && status.f_type == TMPFS_MAGIC &&
         static_cast<uint64_t>(status.f_bavail) * static_cast<uint64_t>(status.f_bsize) >= kLeastRoom;
}

bool IsUsable(const std::string& path) {
  struct stat status;
  return !path.empty() && path[0] == '/' &&
         path.size() <= (geteuid() == 0 ? kLongestRootBase : kLongestBase) &&
         path.find_first_of(" :") == path.npos && stat(path.c_str(), &status) == 0 &&
         S_ISDIR(status.st_mode) && access(path.c_str(), W_OK | X_OK) == 0;
}

std::optional<std::string> IdOf(const std::string& name) {
  if (name.rfind(kPrefix, 0) != 0 || name.size() != std::strlen(kPrefix) + kIdSize) return std::nullopt;
  std::string id = name.substr(std::strlen(kPrefix));
  if (id.find_first_not_of("0123456789abcdef") != id.npos) return std::nullopt;
  return id;
}

bool IsOwnDirectory(const std::string& path, time_t* modified) {
  struct stat status;
  if (lstat(path.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != geteuid())
    return false;
  *modified = status.st_mtime;
  return true;
}

// Calls `visit` for each directory of a dead session, with its id, empty if it was half made. The session's
// lock is held meanwhile, so that nobody else takes it for dead as well.
void ForEachDead(const std::string& base,
                 const std::function<void(const std::string& path, const std::string& id)>& visit) {
  DIR* directory = opendir(base.c_str());
  if (directory == nullptr) return;
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    const std::string path = base + "/" + name;
    time_t modified = 0;
    std::optional<std::string> id = IdOf(name);
    bool half_made = name.rfind(kNewPrefix, 0) == 0;
    if ((!id && !half_made) || !IsOwnDirectory(path, &modified)) continue;
    if (half_made) {
      if (time(nullptr) - modified > kHalfMadeSeconds) visit(path, "");
      continue;
    }
    int lock = OpenLock(path, 0);
    // Without its lock file it is half removed already.
    bool dead = lock < 0 ? errno == ENOENT : flock(lock, LOCK_EX | LOCK_NB) == 0;
    if (dead) visit(path, *id);
    if (lock >= 0) close(lock);
  }
  closedir(directory);
}

}  // namespace

namespace {

// For processes of the session that have become another user's.
bool OpenToOtherUsers(const std::string& directory) {
  if (geteuid() != 0) return true;
  const std::string sockets = directory + "/" + wire::kSocketsPrefix + MakeSessionId().substr(0, kSecretSize);
  return mkdir(sockets.c_str(), 0711) == 0 && chmod(sockets.c_str(), 0711) == 0 &&
         chmod(directory.c_str(), 0711) == 0;
}

}  // namespace

Result<SessionDirectory> SessionDirectory::Make(const std::string& base, const std::string& id) {
  const std::string unfinished = base + "/" + kNewPrefix + id;
  const std::string path = base + "/" + kPrefix + id;
  if (mkdir(unfinished.c_str(), 0700) != 0)
    return SystemError("cannot make the session directory " + unfinished);
  int lock = OpenLock(unfinished, O_CREAT | O_EXCL);
  if (lock < 0 || flock(lock, LOCK_SH | LOCK_NB) != 0 || !OpenToOtherUsers(unfinished) ||
      rename(unfinished.c_str(), path.c_str()) != 0) {
    Error error = SystemError("cannot lock the session directory " + unfinished);
    if (lock >= 0) close(lock);
    RemoveTree(unfinished);
    return error;
  }
  return SessionDirectory(path, lock);
}

SessionDirectory::SessionDirectory(SessionDirectory&& other) noexcept
    : layout_(std::move(other.layout_)), lock_(other.lock_) {
  other.lock_ = -1;
}

SessionDirectory::~SessionDirectory() {
  if (lock_ >= 0) close(lock_);
}

void SessionDirectory::Remove() const {
  RemoveTree(layout_.directory());
}

mode_t LetOwnerUseFiles() {
  const mode_t before = umask(0);
  umask(before & ~mode_t{S_IRWXU});
  return before;
}

std::string MakeSessionId() {
  std::array<unsigned char, kIdSize / 2> random;
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) std::abort();
  std::string id;
  for (unsigned char byte : random) {
    id += "0123456789abcdef"[byte >> 4];
    id += "0123456789abcdef"[byte & 15];
  }
  return id;
}

std::vector<std::string> SessionBases() {
  std::vector<std::string> bases;
  if (IsUsable("/dev/shm") && IsTmpfsWithRoom("/dev/shm")) bases.push_back("/dev/shm");
  for (const char* variable : {"XDG_RUNTIME_DIR", "TMPDIR"}) {
    const char* path = getenv(variable);
    if (path != nullptr && IsUsable(path)) bases.push_back(path);
  }
  if (IsUsable("/tmp")) bases.push_back("/tmp");
  return bases;
}

std::vector<std::string> DeadSessions(const std::string& base) {
  std::vector<std::string> paths;
  ForEachDead(base, [&](const std::string& path, const std::string&) { paths.push_back(path); });
  return paths;
}

void RemoveDeadSessions(const std::string& base,
                        const std::function<void(const std::string& id)>& end_processes) {
  ForEachDead(base, [&](const std::string& path, const std::string& id) {
    if (!id.empty()) end_processes(id);
    RemoveTree(path);
  });
}

void RemoveTree(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

}  // namespace elsewhere::runtime
