// ObjectStore: named byte sequences that are written whole and never changed in place, as S3 has them.
//
// Keys are byte strings of 1 to 1024 bytes; '/' in them is only a convention of listings. A Get sees one
// whole version of an object; a Put that succeeded is seen by every later Get, Head and List. Sizes and
// offsets are bytes, times are nanoseconds since 1970.
//
// Errors (Error::code is an errno, Error::message one line that names store and key):
//   ENOENT no such object      EEXIST  if_absent, and it is there     ESTALE  if_match, and it is another
//   version ENXIO  no such bucket      EACCES  wrong keys or no permission    ENOSPC  quota or device full
//   EINVAL bad key or option   ENOTSUP this store cannot do it        EBADMSG the content fails its checksum
//   EALREADY if_absent or if_match does not hold, perhaps because this very write was carried out, its answer
//   lost, and its object replaced by another writer before that could be seen
//   ECANCELED Interrupt()      ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH, EIO: the store cannot be reached or
//   failed
// A failed Put, CompleteUpload or Copy may have happened all the same when the code is EALREADY or one of the
// last line.
//
// Thread-safety: every method may be called from any thread; all of them block. AsyncStore (async_store.h)
// makes them usable from an event loop. Ownership: what is passed as a view is not kept after the call
// returns. Source: Amazon S3 API reference, 2006-03-01.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shim/store/unique_fd.h"
#include "shim/wire/result.h"

namespace elsewhere::store {

inline constexpr uint64_t kToEnd = UINT64_MAX;
inline constexpr size_t kLongestKey = 1024;

// A part of an object; what lies beyond its end is left out without an error.
struct Range {
  uint64_t offset = 0;
  uint64_t length = kToEnd;
  bool whole() const { return offset == 0 && length == kToEnd; }
};

// Names are lower case without S3's "x-amz-meta-".
using Metadata = std::map<std::string, std::string>;

struct ObjectInfo {
  uint64_t size = 0;
  std::string etag{};  // names this version; opaque, without quotes
  int64_t modified_ns = 0;
  std::string content_type{};
  Metadata metadata{};
};

struct Object {
  ObjectInfo info{};  // size is the whole object's, also when a range was asked for
  std::string body{};
  bool not_modified = false;  // GetOptions::if_none_match held: info and body are empty
};

struct GetOptions {
  Range range{};
  std::string if_match{};       // else ESTALE
  std::string if_none_match{};  // else Object::not_modified
};

struct PutOptions {
  bool if_absent = false;  // exactly one of several racing writers succeeds, the others get EEXIST
  std::string if_match{};  // replace exactly this version, else ESTALE (also when there is none)
  std::string content_type{};
  Metadata metadata{};
};

struct CopyOptions {
  std::string if_match{};              // of the source
  std::optional<Metadata> metadata{};  // replaces the source's; otherwise kept
  std::string content_type{};          // with metadata
};

struct ListRequest {
  std::string prefix{};
  bool folders = false;       // group what has another '/' after the prefix into ListPage::folders
  std::string token{};        // ListPage::next_token of the page before
  std::string start_after{};  // only keys behind this one; not together with token
  unsigned max_keys = 1000;
};

struct ListEntry {
  std::string key{};
  uint64_t size = 0;
  std::string etag{};
  int64_t modified_ns = 0;
};

struct ListPage {
  std::vector<ListEntry> objects{};    // in byte order of their keys
  std::vector<std::string> folders{};  // with their prefix and a final '/', in byte order
  std::string next_token{};            // empty: this was the last page
  int64_t at_ns = 0;                   // the store's own time when it was asked; 0: unknown
};

// One part of a multipart upload, as CompleteUpload wants it back.
struct UploadPart {
  unsigned number = 0;  // 1 to 10000
  std::string etag{};
};

struct UploadEntry {
  std::string key{};
  std::string upload_id{};
  int64_t started_ns = 0;
};

// A file that holds an object at `offset`; it keeps its content when the object is replaced or deleted.
struct LocalObject {
  UniqueFd fd{};  // read only, close-on-exec
  uint64_t offset = 0;
  uint64_t size = 0;
};

class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  // For messages: "dir:/path", "s3://bucket/prefix".
  virtual const std::string& url() const = 0;
  // Differs for all stores that one user reaches, which url() of the same bucket on two servers does not.
  virtual std::string identity() const { return url(); }
  // May an object's key have those bytes? EILSEQ.
  virtual Status CheckKey(std::string_view key) const;

  // Bytes that a key may have.
  virtual size_t longest_key() const { return 1024; }

  virtual Result<Object> Get(std::string_view key, const GetOptions& options = {}) = 0;
  // As Get into the caller's memory: at most `into.size()` bytes from options.range.offset on; answers how
  // many.
  virtual Result<uint64_t> GetInto(std::string_view key, std::span<char> into,
                                   const GetOptions& options = {}) = 0;
  virtual Result<ObjectInfo> Head(std::string_view key) = 0;
  // The same of many at once, which costs less than one by one: a result for each, in their order.
  virtual std::vector<Result<ObjectInfo>> HeadMany(std::span<const std::string> keys);
  // Writes the pieces one after the other as one object. The answer's metadata is left empty.
  virtual Result<ObjectInfo> PutPieces(std::string_view key, std::span<const std::string_view> pieces,
                                       const PutOptions& options = {}) = 0;
  Result<ObjectInfo> Put(std::string_view key, std::string_view body, const PutOptions& options = {}) {
    return PutPieces(key, std::span(&body, 1), options);
  }
  virtual Result<ObjectInfo> Copy(std::string_view from, std::string_view to,
                                  const CopyOptions& options = {}) = 0;
  // Deleting what is not there succeeds.
  virtual Status Delete(std::string_view key) = 0;
  // Answers how many were deleted. The keys that could be deleted are gone also when an error is returned.
  virtual Result<uint64_t> DeleteMany(std::span<const std::string> keys) = 0;
  virtual Result<ListPage> List(const ListRequest& request) = 0;

  // Multipart: parts may be sent in any order and in parallel; all but the last are at least 5 MiB long. The
  // object appears when CompleteUpload succeeds. Until then, and for ever after a crash, the parts occupy
  // space: AbortUpload, or ListUploads for those left behind.
  virtual Result<std::string> BeginUpload(std::string_view key, const PutOptions& options = {}) = 0;
  virtual Result<UploadPart> PutPart(std::string_view key, std::string_view upload_id, unsigned number,
                                     std::string_view body) = 0;
  // A part from an existing object's bytes, without moving them through this machine. `range` must lie inside
  // it.
  virtual Result<UploadPart> CopyPart(std::string_view key, std::string_view upload_id, unsigned number,
                                      std::string_view from, Range range,
                                      std::string_view from_if_match = {}) = 0;
  // `parts` in ascending order. Of `options` only the conditions count.
  virtual Result<ObjectInfo> CompleteUpload(std::string_view key, std::string_view upload_id,
                                            std::span<const UploadPart> parts,
                                            const PutOptions& options = {}) = 0;
  virtual Status AbortUpload(std::string_view key, std::string_view upload_id) = 0;
  virtual Result<std::vector<UploadEntry>> ListUploads(std::string_view prefix) = 0;

  // A descriptor of the object's bytes on this machine, to be mapped without a copy; ENOTSUP where there is
  // none.
  virtual Result<LocalObject> OpenLocal(std::string_view key);

  // Deletes every object whose key begins with `prefix`; answers how many.
  Result<uint64_t> DeletePrefix(std::string_view prefix);

  // Ends every call in progress and all later ones with ECANCELED, so that a program can end at once.
  virtual void Interrupt() {}
};

struct StoreOptions {
  uint64_t quota_bytes = kToEnd;  // directory: content of all objects and unfinished uploads together
  bool durable = false;           // directory: fsync before a Put is reported (S3 always is)

  // S3; empty: from the environment, profile or instance as AWS's own tools would.
  std::string endpoint{};  // "http://host:port", "https://host/base"
  std::string region{};
  std::string profile{};
  std::string ca_file{};               // PEM, besides the system's
  std::optional<bool> path_style{};    // unset: with an endpoint yes, with AWS no
  unsigned connections = 16;           // at most, kept alive between requests
  unsigned attempts = 6;               // per request, with backoff and jitter between them
  unsigned connect_timeout_ms = 5000;  // per attempt
  unsigned stall_timeout_ms = 30000;   // an attempt that moves no byte for so long is given up
};

// Opens `dir:/absolute/path` or `s3://bucket[/prefix]`. For S3 it only checks the URL and the credentials'
// presence; the first request tells whether the bucket can be reached.
Result<std::shared_ptr<ObjectStore>> OpenStore(std::string_view url, const StoreOptions& options = {});

// What OpenStore and its stores heed of this process's environment, as NAME=value: for a process with an
// environment of its own that is to open the same store. Contains secrets.
std::vector<std::string> StoreEnvironment();

}  // namespace elsewhere::store
