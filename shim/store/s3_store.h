// S3Store: an ObjectStore in an S3 bucket, Amazon's or any other server's that speaks the protocol.
//
// - Uploads carry the SHA-256 of their content, which the server checks. A whole object read back is compared
// with its
//   MD5 where its version is one (up to 16 MiB, not encrypted with other keys); EBADMSG when two attempts
//   differ.
// - A conditional write whose answer was lost is recognised when it is repeated: it carries a random mark in
// the
//   object's metadata ("elsewhere-put"), which readers do not see.
// - The key "/" is the marker of the store's own prefix as a directory ("prefix/"); listings leave it out.
// - Conditions are the server's: a server that ignores If-None-Match ignores it here too (OpenStore cannot
// know).
//
// Thread-safety: as ObjectStore. Copy is limited to 5 GiB by S3; CopyPart is not.
#pragma once

#include <memory>
#include <string>

#include "shim/store/object_store.h"
#include "shim/store/s3_connection.h"

namespace elsewhere::store {

class S3Store final : public ObjectStore {
 public:
  static Result<std::shared_ptr<S3Store>> Open(const std::string& bucket, std::string prefix,
                                               const StoreOptions& options = {});

  const std::string& url() const override { return url_; }
  std::string identity() const override { return connection_->endpoint() + " " + url_; }
  size_t longest_key() const override { return prefix_.size() < 1024 ? 1024 - prefix_.size() : 0; }
  Status CheckKey(std::string_view key) const override;
  Result<Object> Get(std::string_view key, const GetOptions& options = {}) override;
  Result<uint64_t> GetInto(std::string_view key, std::span<char> into,
                           const GetOptions& options = {}) override;
  Result<ObjectInfo> Head(std::string_view key) override;
  std::vector<Result<ObjectInfo>> HeadMany(std::span<const std::string> keys) override;
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
  void Interrupt() override { connection_->Interrupt(); }

 private:
  S3Store(std::unique_ptr<S3Connection> connection, std::string prefix);
  std::string FullKey(std::string_view key) const;
  // Sends, and turns every status from 300 on into its error, but those in `accept`.
  Result<S3Answer> Send(const S3Call& call, const std::string& what, std::initializer_list<int> accept = {});
  Result<S3Answer> Checked(Result<S3Answer> answer, const std::string& what,
                           std::initializer_list<int> accept);
  Result<S3Answer> SendGet(std::string_view key, const GetOptions& options,
                           std::optional<std::span<char>> into);
  void AddConditions(const PutOptions& options, std::map<std::string, std::string>* headers) const;
  void AddSourceCondition(std::string_view etag, std::map<std::string, std::string>* headers) const;
  Error RefusedPut(const S3Answer& answer, std::string_view key, const PutOptions& options);
  // Whether the object is the one that an earlier attempt of ours wrote; its information then.
  std::optional<ObjectInfo> WrittenByUs(std::string_view key, const std::string& mark);
  std::string CopySource(std::string_view key) const;
  Result<uint64_t> DeleteBatch(std::span<const std::string> keys);

  const std::unique_ptr<S3Connection> connection_;
  const std::string prefix_;  // empty or with a final '/'
  const std::string url_;
};

// The object's description in the headers of an answer to GET or HEAD. Shared with s3_upload.cpp.
ObjectInfo InfoOfHeaders(const HttpResponse& answer);
// EINVAL: a name or value that no header can carry.
Status AddMetadata(const Metadata& metadata, const std::string& content_type,
                   std::map<std::string, std::string>* headers);
std::string UnquotedEtag(std::string_view etag);
std::string RandomMark();

inline constexpr char kMarkHeader[] = "x-amz-meta-elsewhere-put";

}  // namespace elsewhere::store
