#include "shim/file/attribute_cache.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iterator>
#include <span>

#include "shim/file/cache.h"

namespace elsewhere::file {
namespace {

constexpr uint64_t kFormat = 1;  // another number makes all older entries invalid
constexpr size_t kNameBytes = 16;
constexpr size_t kTextBytes = 208;

// Stored as one byte. At the end there is room for more.
constexpr const char* kWords[] = {"mode",  "uid",  "gid",   "mtime", "atime",
                                  "ctime", "rdev", "inode", "xattr", "application/octet-stream"};
constexpr size_t kFirstWord = 224;  // above the length of any other text
static_assert(kFirstWord > kTextBytes && kFirstWord + std::size(kWords) <= 256);

struct Slot {
  uint64_t checksum;  // of all that follows
  std::array<uint8_t, kNameBytes> name;
  uint64_t size;
  int64_t modified_ns;
  uint64_t added_s;
  // ETag, content type, then name and value of each metadata; each a word or its length and itself.
  std::array<char, kTextBytes> text;
};
static_assert(sizeof(Slot) == 256 && std::has_unique_object_representations_v<Slot>);
using Set = std::array<Slot, 8>;

uint64_t ChecksumOf(const Slot& slot) {
  constexpr size_t kSkipped = sizeof slot.checksum;
  return XXH3_64bits_withSeed(reinterpret_cast<const char*>(&slot) + kSkipped, sizeof slot - kSkipped,
                              kFormat);
}

// Not to be met by chance, nor by who chooses names for it.
std::array<uint8_t, kNameBytes> HashOf(const std::string& name) {
  std::array<uint8_t, EVP_MAX_MD_SIZE> digest;
  std::array<uint8_t, kNameBytes> hash;
  if (EVP_Digest(name.data(), name.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1)
    std::abort();  // only for want of memory
  std::memcpy(hash.data(), digest.data(), hash.size());
  return hash;
}

off_t PlaceOf(const std::array<uint8_t, kNameBytes>& name, uint64_t sets) {
  uint64_t number;
  std::memcpy(&number, name.data(), sizeof number);
  return off_t(number % sets * sizeof(Set));
}

// What lies behind the end of the file, or cannot be read, is zeros: no entries.
Set ReadSet(int fd, off_t place) {
  Set set{};
  (void)!pread(fd, &set, sizeof set, place);
  return set;
}

class Text {
 public:
  explicit Text(std::array<char, kTextBytes>& room) : room_(room) {}
  bool Put(const std::string& text) {
    const auto word = std::find(std::begin(kWords), std::end(kWords), text);
    const bool known = word != std::end(kWords);
    const size_t length = known ? 0 : text.size();
    if (used_ + 1 + length > room_.size()) return false;
    room_[used_++] = char(known ? kFirstWord + size_t(word - std::begin(kWords)) : length);
    text.copy(room_.data() + used_, length);
    used_ += length;
    return true;
  }

 private:
  std::array<char, kTextBytes>& room_;
  size_t used_ = 0;
};

// Of a slot whose checksum is right; an empty string where nothing is left.
class TextReader {
 public:
  explicit TextReader(std::span<const char> rest) : rest_(rest) {}
  std::string Take() {
    if (rest_.empty()) return "";
    const size_t first = uint8_t(rest_[0]);
    rest_ = rest_.subspan(1);
    if (first >= kFirstWord) return first - kFirstWord < std::size(kWords) ? kWords[first - kFirstWord] : "";
    const size_t length = std::min(first, rest_.size());
    std::string text(rest_.data(), length);
    rest_ = rest_.subspan(length);
    return text;
  }

 private:
  std::span<const char> rest_;
};

}  // namespace

Result<std::shared_ptr<AttributeCache>> AttributeCache::Open(const std::string& path, uint64_t limit_bytes) {
  auto failed = [&](int code) { return Error{code, "attribute cache " + path + ": " + strerror(code)}; };
  store::UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  struct stat status;
  if (!fd || fstat(fd.get(), &status) != 0) return failed(errno);
  if (!S_ISREG(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 077) != 0)
    return failed(EACCES);
  const uint64_t sets = std::max<uint64_t>(limit_bytes / sizeof(Set), 1);
  if (uint64_t(status.st_size) > sets * sizeof(Set) && ftruncate(fd.get(), off_t(sets * sizeof(Set))) != 0)
    return failed(errno);
  return std::shared_ptr<AttributeCache>(new AttributeCache(std::move(fd), sets));
}

void AttributeCache::Add(const std::string& name, const store::ObjectInfo& info) {
  Slot slot{.checksum = 0,
            .name = HashOf(name),
            .size = info.size,
            .modified_ns = info.modified_ns,
            .added_s = uint64_t(time(nullptr)),
            .text = {}};
  Text text(slot.text);
  bool fits = text.Put(info.etag) && text.Put(info.content_type);
  for (auto& [key, value] : info.metadata) fits = fits && text.Put(key) && text.Put(value);
  if (!fits) return;
  slot.checksum = ChecksumOf(slot);
  const off_t place = PlaceOf(slot.name, sets_);
  const Set set = ReadSet(fd_.get(), place);
  size_t chosen = 0;
  uint64_t oldest = UINT64_MAX;
  for (size_t i = 0; i < set.size(); ++i) {
    const bool valid = set[i].checksum == ChecksumOf(set[i]);
    const bool same = valid && set[i].name == slot.name;
    const uint64_t added = same || !valid ? 0 : set[i].added_s;
    if (added < oldest || same) oldest = added, chosen = i;
    if (same) break;
  }
  PwriteFully(fd_.get(), reinterpret_cast<const char*>(&slot), sizeof slot,
              uint64_t(place) + chosen * sizeof slot);
}

std::optional<store::ObjectInfo> AttributeCache::Find(const std::string& name, const std::string& etag,
                                                      uint64_t size, int64_t modified_ns) const {
  const auto hash = HashOf(name);
  const Set set = ReadSet(fd_.get(), PlaceOf(hash, sets_));
  for (const Slot& slot : set) {
    const bool that = slot.name == hash && slot.size == size && slot.modified_ns == modified_ns;
    if (!that || slot.checksum != ChecksumOf(slot)) continue;
    TextReader text(slot.text);
    store::ObjectInfo info{
        .size = size, .etag = text.Take(), .modified_ns = modified_ns, .content_type = text.Take()};
    if (info.etag != etag) continue;
    for (std::string key = text.Take(); !key.empty(); key = text.Take()) info.metadata[key] = text.Take();
    return info;
  }
  return std::nullopt;
}

}  // namespace elsewhere::file
