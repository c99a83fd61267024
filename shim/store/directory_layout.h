// How DirectoryStore lays keys and objects out as files.
//
// Key to path: components are split at '/'; each keeps [A-Za-z0-9._-] except a leading '.', all else becomes
// %XX; the empty component is "%e". A component that is followed by a '/' is a directory whose name ends in
// "%d", so that "a", "a/" and "a/b" can exist side by side ("a", "a%d/%e", "a%d/b").
//
// Object file: content, then metadata as name NUL value NUL ..., then a Footer. The content comes first so
// that it can be mapped.
//
// Thread-safety: functions without state.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "shim/store/object_store.h"

namespace elsewhere::store {

struct Footer {
  static constexpr uint64_t kMagic = 0x31'6a'62'6f'2d'73'6c'65;  // "els-obj1"
  uint64_t magic;
  uint8_t etag[16];  // XXH3-128 of the content, canonical byte order
  uint64_t content_size;
  uint32_t metadata_size;
  uint32_t reserved;
};
static_assert(sizeof(Footer) == 40 && std::is_trivially_copyable_v<Footer>);

// EINVAL: empty, longer than 1024 bytes, or a component that is too long for a file name.
Result<std::string> PathOfKey(std::string_view key);

// The inverse for one file name; `directory` says whether it was a component before a '/'.
// False for names that PathOfKey does not make.
bool ComponentOfName(std::string_view name, std::string* component, bool* directory);

// Appends metadata and footer to the content that `fd` holds up to `content_size`.
Result<ObjectInfo> FinishObjectFile(int fd, uint64_t content_size, const PutOptions& options,
                                    const uint8_t etag[16]);

// Reads footer and metadata. EBADMSG: not an object file.
Result<ObjectInfo> ReadObjectInfo(int fd, struct stat* status = nullptr);

// The version name of a content held in memory, or in the first `size` bytes of a file.
void HashContent(std::span<const std::string_view> pieces, uint8_t etag[16]);
Status HashFile(int fd, uint64_t size, uint8_t etag[16]);
std::string EtagText(const uint8_t etag[16]);

// pread, writev and copying until all is done; errno tells why not.
bool ReadFully(int fd, char* into, uint64_t size, uint64_t offset);
bool WriteFully(int fd, std::span<const std::string_view> pieces);
bool CopyFully(int from, uint64_t offset, uint64_t size, int to);

}  // namespace elsewhere::store
