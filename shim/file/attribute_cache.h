// AttributeCache: metadata of object versions that this host has looked up, kept between sessions: what a
// listing does not tell, so that a walk of a known tree costs listings only.
//
// An entry is a fact that does not change: the object that a listing shows under this key with this ETag,
// size and time has this metadata. Whoever adds one has looked it up after a listing in which it was old
// enough (FileSystem::Name::settled), so what replaces the object or its metadata shows another time, and an
// entry of what is gone is never asked for again.
//
// One file, a table: entries of a fixed size in sets of eight, found by a hash of the name. Each has a
// checksum, so that what two processes wrote at once, a killed one wrote half, or a crash or anything else
// has spoiled, is no entry. There is nothing to repair and nothing to lock. Bounded: a full set gives up the
// entry that was added first; what is too long for an entry is not kept. Nothing waits for the disk to have
// it, and a disk that is full keeps nothing new.
//
// The file must be the user's own, and readable by nobody else. Thread-safety: all methods from any thread
// and process.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "shim/store/object_store.h"
#include "shim/store/unique_fd.h"
#include "shim/wire/result.h"

namespace elsewhere::file {

class AttributeCache {
 public:
  // Of as many bytes at most; a longer one is cut, and one of another size is a table of other places.
  // EACCES: it is somebody else's, or others can read it.
  static Result<std::shared_ptr<AttributeCache>> Open(const std::string& path, uint64_t limit_bytes);

  // `name` names the object without doubt, its store included; etag, size and modified_ns its version, as a
  // listing shows it.
  void Add(const std::string& name, const store::ObjectInfo& info);
  std::optional<store::ObjectInfo> Find(const std::string& name, const std::string& etag, uint64_t size,
                                        int64_t modified_ns) const;

 private:
  AttributeCache(store::UniqueFd fd, uint64_t sets) : fd_(std::move(fd)), sets_(sets) {}

  const store::UniqueFd fd_;
  const uint64_t sets_;
};

}  // namespace elsewhere::file
