#include "shim/file/attributes.h"

#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include <cstdio>
#include <cstdlib>

namespace elsewhere::file {
namespace {

constexpr char kDirectoryType[] = "application/x-directory";

std::string TimeText(int64_t ns) {
  int64_t seconds = ns / 1'000'000'000, rest = ns % 1'000'000'000;
  if (rest < 0) rest += 1'000'000'000, --seconds;
  if (rest == 0) return std::to_string(seconds);
  std::string fraction = std::to_string(rest);
  return std::to_string(seconds) + "." + std::string(9 - fraction.size(), '0') + fraction;
}

// Other programs write seconds, seconds with a fraction, and seldom nonsense.
int64_t TimeOf(const std::string& text, int64_t otherwise) {
  char* end;
  long long seconds = strtoll(text.c_str(), &end, 10);
  if (end == text.c_str() || seconds > INT64_MAX / 1'000'000'000 || seconds < INT64_MIN / 1'000'000'000)
    return otherwise;
  int64_t fraction = 0, unit = 100'000'000;
  if (*end == '.')
    for (++end; *end >= '0' && *end <= '9'; ++end, unit /= 10) fraction += (*end - '0') * unit;
  return *end ? otherwise : int64_t{seconds} * 1'000'000'000 + fraction;
}

bool Number(const std::string& text, unsigned* value) {
  char* end;
  unsigned long parsed = strtoul(text.c_str(), &end, 10);
  if (end == text.c_str() || *end || parsed > UINT32_MAX) return false;
  *value = unsigned(parsed);
  return true;
}

void ReadInode(const std::string& text, const std::string& key, Attributes* attributes) {
  char* end;
  const uint64_t inode = strtoull(text.c_str(), &end, 10);
  const uint64_t holds_for = strtoull(end, nullptr, 16);
  if (holds_for != KeyHash(key)) return;
  attributes->inode = inode;
  attributes->inode_key = holds_for;
}

}  // namespace

void Attributes::MoveTo(const std::string& key) {
  inode_key = KeyHash(key);
  ctime_ns = NowNs();
}

bool Attributes::is_directory() const {
  return S_ISDIR(mode);
}
bool Attributes::is_link() const {
  return S_ISLNK(mode);
}

bool Attributes::is_special() const {
  return S_ISFIFO(mode) || S_ISSOCK(mode) || is_device();
}
bool Attributes::is_device() const {
  return S_ISCHR(mode) || S_ISBLK(mode);
}

uint64_t NewInode() {
  uint64_t number = 0;
  while (getrandom(&number, sizeof number, 0) != sizeof number || (number >>= 1) == 0) continue;
  return number;
}

uint64_t KeyHash(std::string_view key, uint64_t seed) {
  uint64_t hash = seed;
  for (unsigned char c : key) hash = (hash ^ c) * 1099511628211ull;
  return hash;
}

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

Attributes AttributesOf(const std::string& key, const store::ObjectInfo& info, const Defaults& defaults) {
  Attributes attributes;
  bool directory = key.ends_with('/');
  attributes.mode = directory ? S_IFDIR | defaults.directory_mode : S_IFREG | defaults.file_mode;
  attributes.uid = defaults.uid;
  attributes.gid = defaults.gid;
  attributes.size = directory ? 0 : info.size;
  attributes.mtime_ns = attributes.atime_ns = attributes.ctime_ns = info.modified_ns;
  attributes.stored_ns = info.modified_ns;
  attributes.etag = info.etag;
  attributes.content_type = info.content_type;
  int64_t mtime = info.modified_ns;
  std::string atime, ctime;
  for (auto& [name, value] : info.metadata) {
    unsigned number;
    if (name == "mode" && Number(value, &number)) {
      mode_t type = number & S_IFMT;
      bool kept = type == S_IFREG || type == S_IFLNK || type == S_IFIFO || type == S_IFSOCK ||
                  type == S_IFCHR || type == S_IFBLK;
      if (directory || !kept) type = attributes.mode & S_IFMT;
      attributes.mode = type | (number & 07777);
    } else if (name == "uid" && Number(value, &number)) {
      attributes.uid = number;
    } else if (name == "gid" && Number(value, &number)) {
      attributes.gid = number;
    } else if (name == "rdev") {
      attributes.device = strtoull(value.c_str(), nullptr, 10);
    } else if (name == "inode") {
      ReadInode(value, key, &attributes);
    } else if (name == "mtime") {
      mtime = TimeOf(value, info.modified_ns);
    } else if (name == "atime") {
      atime = value;
    } else if (name == "ctime") {
      ctime = value;
    } else {
      attributes.other[name] = value;
    }
  }
  attributes.mtime_ns = mtime;
  attributes.atime_ns = TimeOf(atime, mtime);
  attributes.ctime_ns = TimeOf(ctime, info.modified_ns);
  return attributes;
}

Attributes ImplicitDirectory(const Defaults& defaults) {
  Attributes attributes;
  attributes.mode = S_IFDIR | defaults.directory_mode;
  attributes.uid = defaults.uid;
  attributes.gid = defaults.gid;
  return attributes;
}

store::Metadata MetadataOf(const Attributes& attributes) {
  store::Metadata metadata = attributes.other;
  metadata["mode"] = std::to_string(attributes.mode);
  metadata["uid"] = std::to_string(attributes.uid);
  metadata["gid"] = std::to_string(attributes.gid);
  metadata["mtime"] = TimeText(attributes.mtime_ns);
  metadata["atime"] = TimeText(attributes.atime_ns);
  metadata["ctime"] = TimeText(attributes.ctime_ns);
  if (attributes.is_device()) metadata["rdev"] = std::to_string(attributes.device);
  if (attributes.inode != 0) {
    char hash[20];
    snprintf(hash, sizeof hash, " %016lx", static_cast<unsigned long>(attributes.inode_key));
    metadata["inode"] = std::to_string(attributes.inode) + hash;
  }
  return metadata;
}

std::string ContentTypeOf(const Attributes& attributes) {
  if (attributes.is_directory()) return kDirectoryType;
  return attributes.content_type.empty() ? "application/octet-stream" : attributes.content_type;
}

}  // namespace elsewhere::file
