// What stat tells about a file, and the user metadata of an object that it is kept in: the names and forms
// that s3fs uses (mode, uid, gid, mtime, atime, ctime; decimal, times in seconds with a fraction), of which
// rclone shares mtime. A directory is an object whose key ends in '/'; a symbolic link is an object of mode
// S_IFLNK that holds its target; a FIFO, socket or device is an empty object of mode S_IFIFO, S_IFSOCK,
// S_IFCHR or S_IFBLK. Ours besides: `rdev`, a device's number, and `inode`.
//
// An inode number is given when something is made and goes with it to another name. It is stored together
// with a hash of the key that it holds for, since whoever copies an object copies its metadata, too: an
// object whose number is for another key has none (FileSystem::InodeOf).
//
// Thread-safety: functions without state. Sources: s3fs-fuse 1.90 metaheader.cpp; rclone's S3 backend.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "shim/store/object_store.h"

namespace elsewhere::file {

struct Attributes {
  mode_t mode = 0;  // type and permission bits
  uid_t uid = 0;
  gid_t gid = 0;
  uint64_t size = 0;       // bytes
  uint64_t device = 0;     // which one a device node stands for
  uint64_t inode = 0;      // 0: it has none of its own
  uint64_t inode_key = 0;  // KeyHash of the key that it is for
  int64_t mtime_ns = 0, atime_ns = 0, ctime_ns = 0;
  int64_t stored_ns = 0;  // when the store says that it was stored
  std::string etag{};     // of the object; empty for a directory without one
  std::string content_type{};
  store::Metadata other{};  // metadata of other programs, kept as it is

  // The key that it has from now on; a directory's ends in '/'.
  void MoveTo(const std::string& key);
  void ForgetInode() { inode = inode_key = 0; }

  bool is_directory() const;
  bool is_link() const;
  bool is_device() const;
  bool is_special() const;  // a device, FIFO or socket
};

// For what an object does not say itself.
struct Defaults {
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t file_mode = 0644;
  mode_t directory_mode = 0755;
};

// Nobody else has it.
uint64_t NewInode();
// Of a key; a directory's ends in '/'.
uint64_t KeyHash(std::string_view key, uint64_t seed = 14695981039346656037ull);

// `key` decides whether it is a directory when the metadata has no mode.
Attributes AttributesOf(const std::string& key, const store::ObjectInfo& info, const Defaults& defaults);
// A directory that exists only because keys begin with its name.
Attributes ImplicitDirectory(const Defaults& defaults);
store::Metadata MetadataOf(const Attributes& attributes);
std::string ContentTypeOf(const Attributes& attributes);

int64_t NowNs();

}  // namespace elsewhere::file
