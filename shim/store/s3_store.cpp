#include "shim/store/s3_store.h"

#include <openssl/rand.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "shim/store/s3_xml.h"

namespace elsewhere::store {
namespace {

constexpr std::string_view kMetadataPrefix = "x-amz-meta-";
constexpr uint64_t kLargestVerified = 16 << 20;
constexpr size_t kDeletedTogether = 1000;

bool IsMd5(std::string_view etag) {
  return etag.size() == 32 && etag.find_first_not_of("0123456789abcdef") == etag.npos;
}

bool EncryptedByKey(const HttpResponse& answer) {
  return answer.header("x-amz-server-side-encryption").starts_with("aws:kms") ||
         !answer.header("x-amz-server-side-encryption-customer-algorithm").empty();
}

std::string RangeText(Range range) {
  std::string text = "bytes=" + std::to_string(range.offset) + "-";
  if (range.length <= kToEnd - range.offset) text += std::to_string(range.offset + range.length - 1);
  return text;
}

// "bytes 0-99/1234" or "bytes */1234"
uint64_t SizeOfContentRange(std::string_view text) {
  size_t slash = text.find('/');
  return slash == text.npos ? 0 : strtoull(std::string(text.substr(slash + 1)).c_str(), nullptr, 10);
}

// RFC 3629: no surrogates, nothing above U+10FFFF, nothing longer than it must be.
bool IsUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const auto first = static_cast<unsigned char>(text[at++]);
    if (first < 0x80) continue;
    const size_t more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || text.size() - at < more) return false;
    uint32_t point = first & (0x3fu >> more);
    for (size_t i = 0; i < more; ++i) {
      const auto next = static_cast<unsigned char>(text[at++]);
      if ((next & 0xc0) != 0x80) return false;
      point = point << 6 | (next & 0x3f);
    }
    constexpr uint32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};
    if (point < kSmallest[more] || (point >= 0xd800 && point < 0xe000) || point > 0x10ffff) return false;
  }
  return true;
}

std::string Quoted(const std::string& etag) {
  return "\"" + etag + "\"";
}

}  // namespace

std::string UnquotedEtag(std::string_view etag) {
  if (etag.starts_with("W/")) etag.remove_prefix(2);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') etag = etag.substr(1, etag.size() - 2);
  return std::string(etag);
}

std::string RandomMark() {
  unsigned char bytes[8];
  if (RAND_bytes(bytes, sizeof bytes) != 1) std::abort();
  std::string mark;
  for (unsigned char byte : bytes) {
    mark += "0123456789abcdef"[byte >> 4];
    mark += "0123456789abcdef"[byte & 15];
  }
  return mark;
}

ObjectInfo InfoOfHeaders(const HttpResponse& answer) {
  ObjectInfo info;
  std::string_view range = answer.header("content-range");
  info.size = range.empty() ? strtoull(std::string(answer.header("content-length")).c_str(), nullptr, 10)
                            : SizeOfContentRange(range);
  info.etag = UnquotedEtag(answer.header("etag"));
  info.modified_ns = ParseTime(std::string(answer.header("last-modified")));
  info.content_type = answer.header("content-type");
  for (auto& [name, value] : answer.headers)
    if (name.starts_with(kMetadataPrefix) && name != kMarkHeader)
      info.metadata[name.substr(kMetadataPrefix.size())] = value;
  return info;
}

Status AddMetadata(const Metadata& metadata, const std::string& content_type,
                   std::map<std::string, std::string>* headers) {
  auto carried = [](std::string_view text) {
    return std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  };
  bool good = carried(content_type);
  for (auto& [name, value] : metadata) {
    good = good && !name.empty() && name.find_first_of(": ") == name.npos && carried(name) && carried(value);
    (*headers)[std::string(kMetadataPrefix) + name] = value;
  }
  if (!content_type.empty()) (*headers)["content-type"] = content_type;
  if (!good) return Error{EINVAL, "S3 metadata has no control characters, its names no blanks and colons"};
  return Ok{};
}

S3Store::S3Store(std::unique_ptr<S3Connection> connection, std::string prefix)
    : connection_(std::move(connection)),
      prefix_(std::move(prefix)),
      url_("s3://" + connection_->bucket() +
           (prefix_.empty() ? "" : "/" + prefix_.substr(0, prefix_.size() - 1))) {}

Result<std::shared_ptr<S3Store>> S3Store::Open(const std::string& bucket, std::string prefix,
                                               const StoreOptions& options) {
  auto connection = S3Connection::Open(bucket, options);
  if (!connection)
    return Error{connection.error().code, "s3://" + bucket + ": " + connection.error().message};
  while (prefix.ends_with('/')) prefix.pop_back();
  if (!prefix.empty()) prefix += '/';
  return std::shared_ptr<S3Store>(new S3Store(std::move(*connection), std::move(prefix)));
}

// The prefix as a directory has a marker too.
std::string S3Store::FullKey(std::string_view key) const {
  if (key == "/" && !prefix_.empty()) return prefix_;
  return prefix_ + std::string(key);
}

Status S3Store::CheckKey(std::string_view key) const {
  if (!IsUtf8(key)) return Error{EILSEQ, url_ + ": S3's keys are UTF-8"};
  return Ok{};
}

Result<S3Answer> S3Store::Send(const S3Call& call, const std::string& what,
                               std::initializer_list<int> accept) {
  return Checked(connection_->Send(call), what, accept);
}

Result<S3Answer> S3Store::Checked(Result<S3Answer> answer, const std::string& what,
                                  std::initializer_list<int> accept) {
  if (!answer) return Error{answer.error().code, url_ + ": " + what + ": " + answer.error().message};
  int status = answer->http.status;
  if (status < 300 || std::find(accept.begin(), accept.end(), status) != accept.end()) return answer;
  return connection_->ErrorOf(answer->http, what);
}

Result<S3Answer> S3Store::SendGet(std::string_view key, const GetOptions& options,
                                  std::optional<std::span<char>> into) {
  if (key.empty()) return Error{EINVAL, url_ + ": get: the key is empty"};
  S3Call call{.method = "GET", .key = FullKey(key), .into = into};
  if (!options.range.whole()) call.headers["range"] = RangeText(options.range);
  if (!options.if_match.empty()) call.headers["if-match"] = Quoted(options.if_match);
  if (!options.if_none_match.empty()) call.headers["if-none-match"] = Quoted(options.if_none_match);
  auto answer = Send(call, "get " + std::string(key), {304, 416});
  if (answer && answer->http.status == 200 && options.range.offset != 0)
    return Error{ENOTSUP, url_ + ": get " + std::string(key) + ": the server ignores ranges"};
  return answer;
}

Result<Object> S3Store::Get(std::string_view key, const GetOptions& options) {
  Object object;
  if (options.range.length == 0) {
    auto info = Head(key);
    if (!info) return info.error();
    object.info = std::move(*info);
    return object;
  }
  std::string first_md5;
  for (int attempt = 0;; ++attempt) {
    auto answer = SendGet(key, options, std::nullopt);
    if (!answer) return answer.error();
    if (answer->http.status == 304) {
      object.not_modified = true;
      return object;
    }
    object.info = InfoOfHeaders(answer->http);
    if (answer->http.status == 416) {
      // The answer describes the error, not the object.
      auto info = Head(key);
      if (!info) return info.error();
      object.info = std::move(*info);
      return object;
    }
    object.body = std::move(answer->http.body);
    bool verifiable = options.range.whole() && object.body.size() <= kLargestVerified &&
                      IsMd5(object.info.etag) && !EncryptedByKey(answer->http);
    if (!verifiable) return object;
    // A server whose versions only look like MD5 sends the same content twice; a damaged transfer does not.
    std::string md5 = Md5Hex(object.body);
    if (md5 == object.info.etag || md5 == first_md5) return object;
    if (attempt >= 2)
      return Error{EBADMSG, url_ + ": get " + std::string(key) + ": the content arrives damaged"};
    first_md5 = md5;
  }
}

Result<uint64_t> S3Store::GetInto(std::string_view key, std::span<char> into, const GetOptions& options) {
  GetOptions bounded = options;
  bounded.range.length = std::min<uint64_t>(bounded.range.length, into.size());
  if (bounded.range.length == 0) return uint64_t{0};
  auto answer = SendGet(key, bounded, into);
  if (!answer) return answer.error();
  return answer->http.status / 100 == 2 ? answer->http.into_size : 0;
}

Result<ObjectInfo> S3Store::Head(std::string_view key) {
  if (key.empty()) return Error{EINVAL, url_ + ": head: the key is empty"};
  auto answer = Send({.method = "HEAD", .key = FullKey(key)}, "head " + std::string(key));
  if (!answer) return answer.error();
  return InfoOfHeaders(answer->http);
}

std::vector<Result<ObjectInfo>> S3Store::HeadMany(std::span<const std::string> keys) {
  std::vector<S3Call> calls;
  for (auto& key : keys) calls.push_back({.method = "HEAD", .key = FullKey(key)});
  auto answers = connection_->SendAll(calls);
  std::vector<Result<ObjectInfo>> infos;
  for (size_t i = 0; i < keys.size(); ++i) {
    auto answer = Checked(std::move(answers[i]), "head " + keys[i], {});
    infos.push_back(answer ? InfoOfHeaders(answer->http) : Result<ObjectInfo>(answer.error()));
  }
  return infos;
}

// Amazon takes and documents both forms; Ceph takes an If-Match of a PUT only without quotes.
void S3Store::AddConditions(const PutOptions& options, std::map<std::string, std::string>* headers) const {
  if (options.if_absent) (*headers)["if-none-match"] = "*";
  if (!options.if_match.empty())
    (*headers)["if-match"] = connection_->is_aws() ? Quoted(options.if_match) : options.if_match;
}

// Ceph 16 reads the condition under another name, and of CopyPart not at all.
void S3Store::AddSourceCondition(std::string_view etag, std::map<std::string, std::string>* headers) const {
  if (etag.empty()) return;
  (*headers)["x-amz-copy-source-if-match"] = etag;
  if (!connection_->is_aws()) (*headers)["x-amz-copy-if-match"] = etag;
}

// Of an earlier sending that was carried out nothing is left to see when another writer has followed it.
Error S3Store::RefusedPut(const S3Answer& answer, std::string_view key, const PutOptions& options) {
  Error error = connection_->ErrorOf(answer.http, "put " + std::string(key));
  int status = answer.http.status;
  bool missing = status == 404 && error.code == ENOENT;
  bool conditional = options.if_absent || !options.if_match.empty();
  if (answer.perhaps_done && conditional && (status == 412 || missing))
    return Error{EALREADY, url_ + ": put " + std::string(key) +
                               ": an answer was lost, and it has another version than expected or written"};
  if (status != 412 && !(missing && !options.if_match.empty())) return error;
  if (options.if_absent) return Error{EEXIST, url_ + ": put " + std::string(key) + ": it exists already"};
  return Error{ESTALE, url_ + ": put " + std::string(key) + ": it has another version than expected"};
}

std::optional<ObjectInfo> S3Store::WrittenByUs(std::string_view key, const std::string& mark) {
  auto answer = Send({.method = "HEAD", .key = FullKey(key)}, "head");
  if (!answer || answer->http.header(kMarkHeader) != mark) return std::nullopt;
  return InfoOfHeaders(answer->http);
}

Result<ObjectInfo> S3Store::PutPieces(std::string_view key, std::span<const std::string_view> pieces,
                                      const PutOptions& options) {
  if (key.empty()) return Error{EINVAL, url_ + ": put: the key is empty"};
  S3Call call{.method = "PUT", .key = FullKey(key), .body = pieces};
  if (auto good = AddMetadata(options.metadata, options.content_type, &call.headers); !good)
    return good.error();
  AddConditions(options, &call.headers);
  bool conditional = options.if_absent || !options.if_match.empty();
  std::string mark = conditional ? RandomMark() : "";
  if (conditional) call.headers[kMarkHeader] = mark;
  auto answer = Send(call, "put " + std::string(key), {412, 404});
  if (!answer) return answer.error();
  if (answer->http.status >= 300) {
    // Also after a single sending: what stands between us and the server may repeat one by itself.
    if (conditional)
      if (auto written = WrittenByUs(key, mark)) return *written;
    return RefusedPut(*answer, key, options);
  }
  ObjectInfo info;
  for (auto piece : pieces) info.size += piece.size();
  info.etag = UnquotedEtag(answer->http.header("etag"));
  info.modified_ns = ParseTime(std::string(answer->http.header("date")));
  return info;
}

std::string S3Store::CopySource(std::string_view key) const {
  return "/" + connection_->bucket() + "/" + PercentEncode(FullKey(key), true);
}

Result<ObjectInfo> S3Store::Copy(std::string_view from, std::string_view to, const CopyOptions& options) {
  std::string what = "copy " + std::string(from) + " to " + std::string(to);
  if (from.empty() || to.empty()) return Error{EINVAL, url_ + ": " + what + ": the key is empty"};
  S3Call call{.method = "PUT", .key = FullKey(to), .headers = {{"x-amz-copy-source", CopySource(from)}}};
  AddSourceCondition(options.if_match, &call.headers);
  // The source is looked at before it is copied: what somebody else stores meanwhile is not to be replaced.
  // Amazon's condition on the target; Ceph refuses by itself what raced.
  if (from == to && !options.if_match.empty() && connection_->is_aws())
    call.headers["if-match"] = Quoted(options.if_match);
  if (options.metadata) {
    call.headers["x-amz-metadata-directive"] = "REPLACE";
    if (auto good = AddMetadata(*options.metadata, options.content_type, &call.headers); !good)
      return good.error();
  }
  auto answer = Send(call, what);
  if (!answer) return answer.error();
  // S3 sends 200 before it copies, so a failure may follow in the body.
  S3Error error;
  if (ParseS3Error(answer->http.body, &error))
    return Error{EIO, url_ + ": " + what + ": " + error.code + " " + error.message};
  auto etag = ParseElement(answer->http.body, "ETag");
  auto modified = ParseElement(answer->http.body, "LastModified");
  if (!etag || !modified) return etag ? modified.error() : etag.error();
  ObjectInfo info;
  info.etag = *etag;
  info.modified_ns = ParseTime(*modified);
  return info;
}

Status S3Store::Delete(std::string_view key) {
  if (key.empty()) return Error{EINVAL, url_ + ": delete: the key is empty"};
  std::string what = "delete " + std::string(key);
  auto answer = Send({.method = "DELETE", .key = FullKey(key)}, what, {404});
  if (!answer) return answer.error();
  if (answer->http.status < 300) return Ok{};
  Error error = connection_->ErrorOf(answer->http, what);
  if (error.code == ENOENT) return Ok{};
  return error;
}

Result<uint64_t> S3Store::DeleteMany(std::span<const std::string> keys) {
  uint64_t deleted = 0;
  std::optional<Error> first;
  std::vector<std::string> batch;
  auto note = [&](Result<uint64_t> result) {
    if (result) deleted += *result;
    if (!result && !first) first = result.error();
  };
  for (auto& key : keys) {
    if (key.empty()) continue;
    if (!XmlCanSay(prefix_ + key)) {
      auto status = Delete(key);
      note(status ? Result<uint64_t>(uint64_t{1}) : Result<uint64_t>(status.error()));
      continue;
    }
    batch.push_back(FullKey(key));
    if (batch.size() < kDeletedTogether) continue;
    note(DeleteBatch(batch));
    batch.clear();
  }
  if (!batch.empty()) note(DeleteBatch(batch));
  if (first) return *first;
  return deleted;
}

Result<uint64_t> S3Store::DeleteBatch(std::span<const std::string> keys) {
  std::string xml = DeleteXml(keys);
  std::string_view body = xml;
  auto answer = Send({.method = "POST",
                      .query = {{"delete", ""}},
                      .headers = {{"content-md5", Md5Base64(xml)}, {"content-type", "application/xml"}},
                      .body = std::span(&body, 1)},
                     "delete " + std::to_string(keys.size()) + " objects");
  if (!answer) return answer.error();
  auto errors = ParseDeleteErrors(answer->http.body);
  if (!errors) return errors.error();
  std::erase_if(*errors, [](auto& error) { return error.second.code == "NoSuchKey"; });
  if (errors->empty()) return uint64_t{keys.size()};
  auto& [key, error] = errors->front();
  return Error{error.code == "AccessDenied" ? EACCES : EIO,
               url_ + ": delete " + key + ": " + error.code + " " + error.message};
}

Result<ListPage> S3Store::List(const ListRequest& request) {
  S3Call call{.method = "GET",
              .query = {{"list-type", "2"},
                        {"encoding-type", "url"},
                        {"prefix", FullKey(request.prefix)},
                        {"max-keys", std::to_string(std::max(1u, std::min(1000u, request.max_keys)))}}};
  if (request.folders) call.query["delimiter"] = "/";
  if (!request.token.empty()) {
    call.query["continuation-token"] = request.token;
  } else if (!request.start_after.empty()) {
    call.query["start-after"] = FullKey(request.start_after);
  }
  const auto begin = std::chrono::steady_clock::now();
  auto answer = Send(call, "list " + request.prefix);
  if (!answer) return answer.error();
  auto page = ParseListing(answer->http.body);
  if (!page) return Error{page.error().code, url_ + ": list " + request.prefix + ": " + page.error().message};
  auto strip = [this](std::string& key) { key.erase(0, std::min(key.size(), prefix_.size())); };
  for (auto& entry : page->objects) strip(entry.key);
  for (auto& folder : page->folders) strip(folder);
  // The answer is dated when it is sent.
  const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - begin;
  if (int64_t sent = ParseTime(std::string(answer->http.header("date"))); sent > 0)
    page->at_ns = sent - took.count();
  // The marker of our own prefix as a directory is no object of this store.
  std::erase_if(page->objects, [](auto& entry) { return entry.key.empty(); });
  return page;
}

}  // namespace elsewhere::store
