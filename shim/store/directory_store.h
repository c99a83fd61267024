// DirectoryStore: an ObjectStore in a directory, for hosts that share a file system and for host caches.
//
// The directory holds `objects/` (directory_layout.h), `new/` (files not yet published), `uploads/` and
// `usage` (the bytes in use, shared by every process that has the store open). All of it has mode 0700 or
// 0600.
//
// Rules:
//  - An object appears by link (if_absent) or rename (otherwise) of a finished file, so readers see whole
//  versions.
//  - Space is reserved in `usage` before anything is written and given back by whoever unlinks a file;
//  replaced files
//    are swapped out first (RENAME_EXCHANGE), so two racing writers cannot both give back the same bytes.
//  - if_match is decided under an exclusive lock on the directory; other changes of existing objects share
//  that lock.
//  - What a killed process left in `new/` and its share of `usage` are put right when the store is next
//  opened while
//    nobody else has it open. Until then it counts against the quota.
//
// Limits: a page of List costs a walk of the part of the tree that it concerns; a key's component is at most
// about 250 plain characters. A process killed between swap and unlink leaves the old version in `new/`,
// never a damaged object. Thread-safety: as ObjectStore; also safe between processes that share the
// directory.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "shim/store/object_store.h"

namespace elsewhere::store {

class DirectoryStore final : public ObjectStore {
 public:
  // Makes the directory (not its parents) when it is missing. EACCES: it belongs to somebody else or others
  // may write it.
  static Result<std::shared_ptr<DirectoryStore>> Open(const std::string& path,
                                                      const StoreOptions& options = {});
  ~DirectoryStore() override;

  const std::string& url() const override { return url_; }
  Result<Object> Get(std::string_view key, const GetOptions& options = {}) override;
  Result<uint64_t> GetInto(std::string_view key, std::span<char> into,
                           const GetOptions& options = {}) override;
  Result<ObjectInfo> Head(std::string_view key) override;
  Result<ObjectInfo> PutPieces(std::string_view key, std::span<const std::string_view> pieces,
                               const PutOptions& options = {}) override;
  Result<ObjectInfo> Copy(std::string_view from, std::string_view to,
                          const CopyOptions& options = {}) override;
  Status Delete(std::string_view key) override;
  Result<uint64_t> DeleteMany(std::span<const std::string> keys) override;
  Result<ListPage> List(const ListRequest& request) override;
  Result<std::string> BeginUpload(std::string_view key, const PutOptions& options = {}) override;
  Result<UploadPart> PutPart(std::string_view key, std::string_view upload_id, unsigned number,
                             std::string_view body) override;
  Result<UploadPart> CopyPart(std::string_view key, std::string_view upload_id, unsigned number,
                              std::string_view from, Range range,
                              std::string_view from_if_match = {}) override;
  Result<ObjectInfo> CompleteUpload(std::string_view key, std::string_view upload_id,
                                    std::span<const UploadPart> parts,
                                    const PutOptions& options = {}) override;
  Status AbortUpload(std::string_view key, std::string_view upload_id) override;
  Result<std::vector<UploadEntry>> ListUploads(std::string_view prefix) override;
  Result<LocalObject> OpenLocal(std::string_view key) override;

  // Bytes in use by all processes, reservations of unfinished writes included.
  uint64_t used_bytes() const;

  // Removes everything the store holds, and the directory itself if nothing else is in it. Only when nobody
  // uses it.
  Status Remove();

 private:
  struct Usage;
  struct OpenObject {
    UniqueFd fd;
    ObjectInfo info;
  };
  // A file in new/ with its reservation; gives both back unless published.
  class NewFile;

  DirectoryStore(std::string path, const StoreOptions& options);
  Status Prepare();
  void Recover();
  Error Fail(int code, std::string_view what, std::string_view key) const;
  Error Fail(const Error& error, std::string_view what, std::string_view key) const;

  Status Reserve(uint64_t bytes);
  void GiveBack(uint64_t bytes);
  Result<UniqueFd> Lock(bool exclusive);
  Result<OpenObject> OpenForRead(std::string_view key, const GetOptions& options);
  Result<NewFile> Create(uint64_t content_size, const PutOptions& options);
  Status Publish(NewFile& file, std::string_view key, const PutOptions& options);
  Status PublishOver(NewFile& file, const std::string& target);
  Result<bool> Unlink(std::string_view key);
  void MakeParents(const std::string& target);
  void RemoveEmptyParents(std::string target);
  std::string NewName();
  Result<std::string> UploadPath(std::string_view key, std::string_view upload_id);
  Result<UploadPart> PublishPart(NewFile& file, const std::string& upload, unsigned number,
                                 const ObjectInfo& info);
  void RemoveUpload(const std::string& upload);

  const std::string path_;
  const std::string url_;
  const StoreOptions options_;
  UniqueFd root_;        // O_PATH would not do: it is locked
  UniqueFd usage_file_;  // its lock is shared by all who have the store open
  Usage* usage_ = nullptr;
  std::atomic<uint64_t> next_name_{0};
  std::string name_prefix_;
};

}  // namespace elsewhere::store
