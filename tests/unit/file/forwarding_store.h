// A store before another one; what derives from it sees, delays or refuses requests.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "shim/store/object_store.h"

namespace elsewhere::file {

class ForwardingStore : public store::ObjectStore {
 public:
  explicit ForwardingStore(std::shared_ptr<ObjectStore> inner) : inner_(std::move(inner)) {}

  const std::string& url() const override { return inner_->url(); }
  std::string identity() const override { return inner_->identity(); }
  size_t longest_key() const override { return inner_->longest_key(); }
  Result<store::Object> Get(std::string_view key, const store::GetOptions& options) override {
    if (auto error = Ask("GET", 0)) return *error;
    return inner_->Get(key, options);
  }
  Result<uint64_t> GetInto(std::string_view key, std::span<char> into,
                           const store::GetOptions& options) override {
    if (auto error = Ask("GET", 0)) return *error;
    return inner_->GetInto(key, into, options);
  }
  Result<store::ObjectInfo> Head(std::string_view key) override {
    if (auto error = Ask("HEAD", 0)) return *error;
    return inner_->Head(key);
  }
  Result<store::ObjectInfo> PutPieces(std::string_view key, std::span<const std::string_view> pieces,
                                      const store::PutOptions& options) override {
    uint64_t size = 0;
    for (auto piece : pieces) size += piece.size();
    if (auto error = Ask("PUT", size)) return *error;
    return inner_->PutPieces(key, pieces, options);
  }
  Result<store::ObjectInfo> Copy(std::string_view from, std::string_view to,
                                 const store::CopyOptions& options) override {
    if (auto error = Ask("COPY", 0)) return *error;
    return inner_->Copy(from, to, options);
  }
  Status Delete(std::string_view key) override {
    if (auto error = Ask("DELETE", 0)) return *error;
    return inner_->Delete(key);
  }
  Result<uint64_t> DeleteMany(std::span<const std::string> keys) override {
    if (auto error = Ask("DELETE", 0)) return *error;
    return inner_->DeleteMany(keys);
  }
  Result<store::ListPage> List(const store::ListRequest& request) override {
    if (auto error = Ask("LIST", 0)) return *error;
    return inner_->List(request);
  }
  Result<std::string> BeginUpload(std::string_view key, const store::PutOptions& options) override {
    if (auto error = Ask("BEGIN", 0)) return *error;
    return inner_->BeginUpload(key, options);
  }
  Result<store::UploadPart> PutPart(std::string_view key, std::string_view id, unsigned number,
                                    std::string_view body) override {
    if (auto error = Ask("PART", body.size())) return *error;
    return inner_->PutPart(key, id, number, body);
  }
  Result<store::UploadPart> CopyPart(std::string_view key, std::string_view id, unsigned number,
                                     std::string_view from, store::Range range,
                                     std::string_view if_match) override {
    if (auto error = Ask("COPYPART", 0)) return *error;
    return inner_->CopyPart(key, id, number, from, range, if_match);
  }
  Result<store::ObjectInfo> CompleteUpload(std::string_view key, std::string_view id,
                                           std::span<const store::UploadPart> parts,
                                           const store::PutOptions& options) override {
    if (auto error = Ask("COMPLETE", 0)) return *error;
    return inner_->CompleteUpload(key, id, parts, options);
  }
  Status AbortUpload(std::string_view key, std::string_view id) override {
    if (auto error = Ask("ABORT", 0)) return *error;
    return inner_->AbortUpload(key, id);
  }
  Result<std::vector<store::UploadEntry>> ListUploads(std::string_view prefix) override {
    if (auto error = Ask("UPLOADS", 0)) return *error;
    return inner_->ListUploads(prefix);
  }

 private:
  std::optional<Error> Ask(std::string_view verb, uint64_t bytes_sent) {
    OnRequest(verb, bytes_sent);
    return Refuse(verb);
  }
  virtual void OnRequest(std::string_view, uint64_t) {}
  virtual std::optional<Error> Refuse(std::string_view) { return std::nullopt; }

  const std::shared_ptr<ObjectStore> inner_;
};

}  // namespace elsewhere::file
