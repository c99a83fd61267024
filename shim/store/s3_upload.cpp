// Multipart uploads of S3Store.
#include <algorithm>

#include "shim/store/s3_store.h"
#include "shim/store/s3_xml.h"

namespace elsewhere::store {
namespace {

std::map<std::string, std::string> PartQuery(std::string_view upload_id, unsigned number) {
  return {{"uploadId", std::string(upload_id)}, {"partNumber", std::to_string(number)}};
}

// The version that S3 gives to an object of these parts: MD5 over their binary MD5s, and how many they are.
std::string EtagOfParts(std::span<const UploadPart> parts) {
  std::string joined;
  for (auto& part : parts) {
    if (part.etag.size() != 32) return "";
    for (size_t i = 0; i < 32; i += 2) joined += char(strtoul(part.etag.substr(i, 2).c_str(), nullptr, 16));
  }
  return Md5Hex(joined) + "-" + std::to_string(parts.size());
}

}  // namespace

Result<std::string> S3Store::BeginUpload(std::string_view key, const PutOptions& options) {
  if (key.empty()) return Error{EINVAL, url_ + ": begin upload: the key is empty"};
  S3Call call{.method = "POST", .key = FullKey(key), .query = {{"uploads", ""}}};
  if (auto good = AddMetadata(options.metadata, options.content_type, &call.headers); !good)
    return good.error();
  auto answer = Send(call, "begin upload of " + std::string(key));
  if (!answer) return answer.error();
  auto id = ParseElement(answer->http.body, "UploadId");
  if (!id || id->empty())
    return Error{EBADMSG, url_ + ": begin upload of " + std::string(key) + ": the answer has no upload id"};
  return id;
}

Result<UploadPart> S3Store::PutPart(std::string_view key, std::string_view upload_id, unsigned number,
                                    std::string_view body) {
  std::string what = "put part " + std::to_string(number) + " of " + std::string(key);
  auto answer = Send({.method = "PUT",
                      .key = FullKey(key),
                      .query = PartQuery(upload_id, number),
                      .body = std::span(&body, 1)},
                     what);
  if (!answer) return answer.error();
  return UploadPart{number, UnquotedEtag(answer->http.header("etag"))};
}

Result<UploadPart> S3Store::CopyPart(std::string_view key, std::string_view upload_id, unsigned number,
                                     std::string_view from, Range range, std::string_view from_if_match) {
  std::string what = "copy part " + std::to_string(number) + " of " + std::string(key);
  S3Call call{.method = "PUT",
              .key = FullKey(key),
              .query = PartQuery(upload_id, number),
              .headers = {{"x-amz-copy-source", CopySource(from)}}};
  if (!range.whole()) {
    if (range.length == 0 || range.length == kToEnd)
      return Error{EINVAL, url_ + ": " + what + ": give the range's length"};
    call.headers["x-amz-copy-source-range"] =
        "bytes=" + std::to_string(range.offset) + "-" + std::to_string(range.offset + range.length - 1);
  }
  AddSourceCondition(from_if_match, &call.headers);
  auto answer = Send(call, what);
  if (!answer) return answer.error();
  S3Error error;
  if (ParseS3Error(answer->http.body, &error))
    return Error{EIO, url_ + ": " + what + ": " + error.code + " " + error.message};
  auto etag = ParseElement(answer->http.body, "ETag");
  if (!etag) return etag.error();
  return UploadPart{number, *etag};
}

Result<ObjectInfo> S3Store::CompleteUpload(std::string_view key, std::string_view upload_id,
                                           std::span<const UploadPart> parts, const PutOptions& options) {
  std::string what = "complete upload of " + std::string(key);
  std::string xml = CompleteXml(parts);
  std::string_view body = xml;
  S3Call call{.method = "POST",
              .key = FullKey(key),
              .query = {{"uploadId", std::string(upload_id)}},
              .headers = {{"content-type", "application/xml"}},
              .body = std::span(&body, 1)};
  AddConditions(options, &call.headers);
  auto answer = Send(call, what, {404, 412});
  if (!answer) return answer.error();
  S3Error error;
  if (answer->http.status >= 300) {
    // An earlier attempt may have been carried out, and then the upload is gone: what is there now tells.
    auto info = Head(key);
    if (info && info->etag == EtagOfParts(parts)) return info;
    return RefusedPut(*answer, key, options);
  }
  if (ParseS3Error(answer->http.body, &error))
    return Error{EIO, url_ + ": " + what + ": " + error.code + " " + error.message};
  auto etag = ParseElement(answer->http.body, "ETag");
  if (!etag) return etag.error();
  ObjectInfo info;
  info.etag = etag->empty() ? EtagOfParts(parts) : *etag;  // Ceph leaves it out
  if (info.etag.empty()) return Head(key);
  info.modified_ns = ParseTime(std::string(answer->http.header("date")));
  return info;
}

Status S3Store::AbortUpload(std::string_view key, std::string_view upload_id) {
  auto answer =
      Send({.method = "DELETE", .key = FullKey(key), .query = {{"uploadId", std::string(upload_id)}}},
           "abort upload of " + std::string(key));
  if (!answer) return answer.error();
  return Ok{};
}

Result<std::vector<UploadEntry>> S3Store::ListUploads(std::string_view prefix) {
  std::vector<UploadEntry> uploads;
  S3Call call{.method = "GET",
              .query = {{"uploads", ""}, {"encoding-type", "url"}, {"prefix", FullKey(prefix)}}};
  for (;;) {
    auto answer = Send(call, "list uploads");
    if (!answer) return answer.error();
    auto page = ParseUploads(answer->http.body);
    if (!page) return page.error();
    for (auto& entry : page->uploads) {
      if (!entry.key.starts_with(prefix_)) continue;
      entry.key.erase(0, prefix_.size());
      uploads.push_back(std::move(entry));
    }
    if (!page->truncated || (page->next_key.empty() && page->next_upload.empty())) return uploads;
    call.query["key-marker"] = page->next_key;
    call.query["upload-id-marker"] = page->next_upload;
  }
}

}  // namespace elsewhere::store
