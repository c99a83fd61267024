#include "shim/store/directory_layout.h"

#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace elsewhere::store {
namespace {

constexpr char kDigits[] = "0123456789ABCDEF";
constexpr std::string_view kDirectoryMark = "%d";
constexpr std::string_view kEmptyName = "%e";
constexpr size_t kBufferSize = 1 << 20;

bool Plain(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         c == '.';
}

void AppendComponent(std::string_view component, std::string* path) {
  if (component.empty()) *path += kEmptyName;
  for (size_t i = 0; i < component.size(); ++i) {
    char c = component[i];
    if (Plain(c) && !(i == 0 && c == '.')) {
      *path += c;
    } else {
      *path += '%';
      *path += kDigits[uint8_t(c) >> 4];
      *path += kDigits[uint8_t(c) & 15];
    }
  }
}

int DigitValue(char c) {
  const char* at = c ? strchr(kDigits, c) : nullptr;
  return at ? int(at - kDigits) : -1;
}

void CanonicalEtag(XXH128_hash_t hash, uint8_t etag[16]) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  memcpy(etag, canonical.digest, 16);
}

struct HashFree {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};
using Hash = std::unique_ptr<XXH3_state_t, HashFree>;

Hash NewHash() {
  Hash hash(XXH3_createState());
  if (!hash) abort();
  XXH3_128bits_reset(hash.get());
  return hash;
}

}  // namespace

Result<std::string> PathOfKey(std::string_view key) {
  if (key.empty() || key.size() > 1024)
    return Error{EINVAL, "a key has 1 to 1024 bytes, this one " + std::to_string(key.size())};
  std::string path;
  for (;;) {
    size_t before = path.size();
    size_t slash = key.find('/');
    AppendComponent(key.substr(0, slash), &path);
    if (slash != key.npos) path += kDirectoryMark;
    if (path.size() - before > NAME_MAX)
      return Error{EINVAL, "a key's component is too long for a file name"};
    if (slash == key.npos) return path;
    path += '/';
    key.remove_prefix(slash + 1);
  }
}

bool ComponentOfName(std::string_view name, std::string* component, bool* directory) {
  component->clear();
  *directory = name.ends_with(kDirectoryMark);
  if (*directory) name.remove_suffix(kDirectoryMark.size());
  if (name == kEmptyName) return true;
  if (name.empty() || name[0] == '.') return false;
  for (size_t i = 0; i < name.size(); ++i) {
    if (Plain(name[i])) {
      *component += name[i];
      continue;
    }
    if (name[i] != '%' || i + 2 >= name.size()) return false;
    int high = DigitValue(name[i + 1]), low = DigitValue(name[i + 2]);
    if (high < 0 || low < 0) return false;
    *component += char(high << 4 | low);
    i += 2;
  }
  return true;
}

Result<ObjectInfo> FinishObjectFile(int fd, uint64_t content_size, const PutOptions& options,
                                    const uint8_t etag[16]) {
  std::string tail;
  auto add = [&tail](std::string_view name, std::string_view value) {
    tail.append(name).push_back('\0');
    tail.append(value).push_back('\0');
  };
  for (auto& [name, value] : options.metadata) {
    if (name.empty() || (name + value).find('\0') != std::string::npos)
      return Error{EINVAL, "metadata with an empty name or a NUL byte"};
    add(name, value);
  }
  if (!options.content_type.empty()) add("", options.content_type);
  Footer footer{Footer::kMagic, {}, content_size, uint32_t(tail.size()), 0};
  memcpy(footer.etag, etag, sizeof footer.etag);
  tail.append(reinterpret_cast<const char*>(&footer), sizeof footer);
  std::string_view piece = tail;
  struct stat status;
  if (lseek(fd, off_t(content_size), SEEK_SET) < 0 || !WriteFully(fd, std::span(&piece, 1)) ||
      fstat(fd, &status) != 0)
    return Error{errno, strerror(errno)};
  return ObjectInfo{.size = content_size,
                    .etag = EtagText(etag),
                    .modified_ns = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec,
                    .content_type = {},
                    .metadata = {}};
}

Result<ObjectInfo> ReadObjectInfo(int fd, struct stat* status) {
  struct stat own;
  if (!status) status = &own;
  if (fstat(fd, status) != 0) return Error{errno, strerror(errno)};
  Footer footer;
  auto file_size = uint64_t(status->st_size);
  if (file_size < sizeof footer ||
      !ReadFully(fd, reinterpret_cast<char*>(&footer), sizeof footer, file_size - sizeof footer) ||
      footer.magic != Footer::kMagic ||
      footer.content_size + footer.metadata_size + sizeof footer != file_size)
    return Error{EBADMSG, "the file in the store's directory is no object, or cut short"};
  ObjectInfo info;
  info.size = footer.content_size;
  info.etag = EtagText(footer.etag);
  info.modified_ns = int64_t{status->st_mtim.tv_sec} * 1'000'000'000 + status->st_mtim.tv_nsec;
  std::string tail(footer.metadata_size, '\0');
  if (!ReadFully(fd, tail.data(), tail.size(), footer.content_size))
    return Error{EBADMSG, "the object's metadata is cut short"};
  for (size_t at = 0; at < tail.size();) {
    std::string name = tail.c_str() + at;
    at += name.size() + 1;
    if (at >= tail.size()) return Error{EBADMSG, "the object's metadata is damaged"};
    std::string value = tail.c_str() + at;
    at += value.size() + 1;
    (name.empty() ? info.content_type : info.metadata[name]) = std::move(value);
  }
  return info;
}

void HashContent(std::span<const std::string_view> pieces, uint8_t etag[16]) {
  if (pieces.size() == 1) return CanonicalEtag(XXH3_128bits(pieces[0].data(), pieces[0].size()), etag);
  Hash hash = NewHash();
  for (auto piece : pieces) XXH3_128bits_update(hash.get(), piece.data(), piece.size());
  CanonicalEtag(XXH3_128bits_digest(hash.get()), etag);
}

Status HashFile(int fd, uint64_t size, uint8_t etag[16]) {
  Hash hash = NewHash();
  std::string buffer(std::min<uint64_t>(size, kBufferSize), '\0');
  for (uint64_t at = 0; at < size;) {
    uint64_t length = std::min<uint64_t>(buffer.size(), size - at);
    if (!ReadFully(fd, buffer.data(), length, at)) return Error{errno, strerror(errno)};
    XXH3_128bits_update(hash.get(), buffer.data(), length);
    at += length;
  }
  CanonicalEtag(XXH3_128bits_digest(hash.get()), etag);
  return Ok{};
}

std::string EtagText(const uint8_t etag[16]) {
  std::string text;
  for (int i = 0; i < 16; ++i) {
    text += "0123456789abcdef"[etag[i] >> 4];
    text += "0123456789abcdef"[etag[i] & 15];
  }
  return text;
}

bool ReadFully(int fd, char* into, uint64_t size, uint64_t offset) {
  while (size > 0) {
    ssize_t got = pread(fd, into, size, off_t(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = EIO;
    if (got <= 0) return false;
    into += got;
    offset += uint64_t(got);
    size -= uint64_t(got);
  }
  return true;
}

bool WriteFully(int fd, std::span<const std::string_view> pieces) {
  std::vector<iovec> vectors;
  for (auto piece : pieces)
    if (!piece.empty()) vectors.push_back({const_cast<char*>(piece.data()), piece.size()});
  for (size_t first = 0; first < vectors.size();) {
    ssize_t got = writev(fd, &vectors[first], int(std::min<size_t>(vectors.size() - first, IOV_MAX)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    for (auto left = size_t(got); left > 0;) {
      size_t taken = std::min(left, vectors[first].iov_len);
      vectors[first].iov_base = static_cast<char*>(vectors[first].iov_base) + taken;
      vectors[first].iov_len -= taken;
      left -= taken;
      if (vectors[first].iov_len == 0) ++first;
    }
  }
  return true;
}

bool CopyFully(int from, uint64_t offset, uint64_t size, int to) {
  std::string buffer;
  while (size > 0) {
    auto from_offset = off64_t(offset);
    ssize_t got = buffer.empty() ? copy_file_range(from, &from_offset, to, nullptr, size, 0) : -1;
    if (got < 0 &&
        (!buffer.empty() || errno == EXDEV || errno == ENOSYS || errno == EINVAL || errno == EOPNOTSUPP)) {
      buffer.resize(kBufferSize);
      uint64_t length = std::min<uint64_t>(buffer.size(), size);
      std::string_view piece(buffer.data(), length);
      if (!ReadFully(from, buffer.data(), length, offset) || !WriteFully(to, std::span(&piece, 1)))
        return false;
      got = ssize_t(length);
    }
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = EIO;
    if (got <= 0) return false;
    offset += uint64_t(got);
    size -= uint64_t(got);
  }
  return true;
}

}  // namespace elsewhere::store
