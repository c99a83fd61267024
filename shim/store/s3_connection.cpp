#include "shim/store/s3_connection.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <random>

#include "shim/store/s3_xml.h"

namespace elsewhere::store {
namespace {

constexpr unsigned kFirstBackoff_ms = 50;
constexpr unsigned kLongestBackoff_ms = 5000;

std::string Environment(const char* name) {
  const char* value = getenv(name);
  return value ? value : "";
}

std::string FirstOf(std::initializer_list<std::string> values) {
  for (auto& value : values)
    if (!value.empty()) return value;
  return "";
}

bool TransportMayBeRepeated(int code) {
  return code == ECONNREFUSED || code == EHOSTUNREACH || code == ETIMEDOUT || code == ECONNRESET;
}

S3Error ReadError(const HttpResponse& answer) {
  S3Error error;
  ParseS3Error(answer.body, &error);
  if (error.region.empty()) error.region = answer.header("x-amz-bucket-region");
  return error;
}

// Whether a failed attempt has certainly changed nothing: it was refused, or never sent.
bool RulesOutItsEffect(const Result<HttpResponse>& answer) {
  if (!answer) return answer.error().code == ECONNREFUSED || answer.error().code == EHOSTUNREACH;
  return answer->status < 500 || ReadError(*answer).code == "SlowDown";
}

struct Meaning {
  std::string_view code;
  int error;
  std::string_view hint;
};

constexpr Meaning kMeanings[] = {
    {"NoSuchKey", ENOENT, "no such object"},
    {"NoSuchUpload", ENOENT, "no such upload"},
    {"NoSuchBucket", ENXIO, "there is no such bucket"},
    {"AccessDenied", EACCES, "permission denied"},
    {"AllAccessDisabled", EACCES, "permission denied"},
    {"InvalidAccessKeyId", EACCES, "the server does not know the access key: check AWS_ACCESS_KEY_ID"},
    {"SignatureDoesNotMatch", EACCES, "the secret key is wrong: check AWS_SECRET_ACCESS_KEY"},
    {"ExpiredToken", EACCES, "the credentials have expired"},
    {"InvalidToken", EACCES, "the session token is not valid"},
    {"RequestTimeTooSkewed", EACCES, "this machine's clock differs too much from the server's"},
    {"PreconditionFailed", ESTALE, "the object has another version than expected"},
    {"QuotaExceeded", ENOSPC, "the quota is used up"},
    {"EntityTooLarge", EFBIG, "too large"},
    {"KeyTooLongError", ENAMETOOLONG, "the key is too long"},
    {"InvalidPart", EINVAL, "a part of the upload is missing or another one"},
    {"InvalidPartOrder", EINVAL, "the parts are not in order"},
    {"EntityTooSmall", EINVAL, "a part of the upload is smaller than 5 MiB"},
    {"InvalidArgument", EINVAL, "invalid argument"},
    {"InvalidRange", EINVAL, "the range lies outside of the object"},
    {"InvalidBucketName", EINVAL, "this is no name of a bucket"},
    {"NotImplemented", ENOTSUP, "the server does not support this"},
    {"MethodNotAllowed", ENOTSUP, "the server does not allow this"},
    {"SlowDown", EIO, "the server asks to slow down"},
};

int CodeOfStatus(int status) {
  switch (status) {
    case 401:
    case 403:
      return EACCES;
    case 404:
      return ENOENT;
    case 405:
    case 501:
      return ENOTSUP;
    case 412:
      return ESTALE;
    case 507:
      return ENOSPC;
    case 416:
      return EINVAL;
    default:
      return EIO;
  }
}

}  // namespace

S3Connection::S3Connection(std::string bucket, const StoreOptions& options)
    : bucket_(std::move(bucket)),
      options_(options),
      credentials_(options.profile),
      http_({.connections = options.connections,
             .connect_timeout_ms = options.connect_timeout_ms,
             .stall_timeout_ms = options.stall_timeout_ms,
             .ca_file = options.ca_file.empty() ? Environment("AWS_CA_BUNDLE") : options.ca_file}),
      reads_(std::chrono::milliseconds(options.stall_timeout_ms)),
      changes_(std::chrono::milliseconds(options.stall_timeout_ms)) {}

Result<std::unique_ptr<S3Connection>> S3Connection::Open(const std::string& bucket,
                                                         const StoreOptions& options) {
  std::unique_ptr<S3Connection> connection(new S3Connection(bucket, options));
  auto status = connection->Configure();
  if (!status) return status.error();
  return connection;
}

Status S3Connection::Configure() {
  auto credentials = credentials_.Current();
  if (!credentials) return credentials.error();
  custom_endpoint_ = FirstOf({options_.endpoint, Environment("AWS_ENDPOINT_URL_S3"),
                              Environment("AWS_ENDPOINT_URL"), credentials_.Setting("endpoint_url")});
  while (custom_endpoint_.ends_with('/')) custom_endpoint_.pop_back();
  if (!custom_endpoint_.empty() && !custom_endpoint_.starts_with("http://") &&
      !custom_endpoint_.starts_with("https://"))
    return Error{EINVAL, "S3 endpoint " + custom_endpoint_ + ": write http://host:port or https://host:port"};
  region_ = FirstOf({options_.region, Environment("AWS_REGION"), Environment("AWS_DEFAULT_REGION"),
                     credentials_.Setting("region"), "us-east-1"});
  // A dot in a bucket's name leaves no host name that AWS's certificate covers.
  path_style_ = options_.path_style.value_or(!custom_endpoint_.empty() || bucket_.find('.') != bucket_.npos);
  return Ok{};
}

S3Connection::Place S3Connection::PlaceOf(const std::string& region) const {
  Place place;
  if (custom_endpoint_.empty()) {
    place = {"https://", "s3." + region + ".amazonaws.com" + (region.starts_with("cn-") ? ".cn" : ""), ""};
  } else {
    size_t host = custom_endpoint_.find("//") + 2, path = custom_endpoint_.find('/', host);
    place = {custom_endpoint_.substr(0, host), custom_endpoint_.substr(host, path - host),
             path == std::string::npos ? "" : custom_endpoint_.substr(path)};
  }
  if (path_style_) {
    place.path += "/" + bucket_;
  } else {
    place.host = bucket_ + "." + place.host;
  }
  return place;
}

Result<HttpRequest> S3Connection::Signed(const S3Call& call, std::string_view sha256) {
  auto credentials = credentials_.Current();
  if (!credentials) return credentials.error();
  std::string region;
  {
    std::lock_guard lock(mutex_);
    region = region_;
  }
  Place place = PlaceOf(region);
  S3Request request{.method = call.method,
                    .host = place.host,
                    .path = place.path,
                    .query = call.query,
                    .headers = call.headers};
  if (!call.key.empty() || request.path.empty()) request.path += "/" + call.key;
  SignS3(*credentials, region, time(nullptr) + clock_offset_s_, sha256, &request);

  HttpRequest http{.method = call.method,
                   .url = place.scheme + place.host + PercentEncode(request.path, true)};
  if (!request.query.empty()) http.url += "?" + EncodedQuery(request.query);
  for (auto& [name, value] : request.headers)
    http.headers.emplace_back(name).append(value.empty() ? ";" : ": ").append(value);
  if (!call.headers.contains("content-type")) http.headers.push_back("content-type:");
  http.body = call.body;
  http.into = call.into;
  return http;
}

Result<HttpResponse> S3Connection::SendOnce(const S3Call& call, std::string_view sha256) {
  auto request = Signed(call, sha256);
  if (!request) return request.error();
  return http_.Perform(*request);
}

// `adapted`: what we had got wrong is put right, so the next attempt needs no waiting.
bool S3Connection::WorthRepeating(const HttpResponse& answer, bool* adapted) {
  *adapted = false;
  int status = answer.status;
  if (status < 300) return false;
  if (status == 500 || status == 502 || status == 503 || status == 504 || status == 429 || status == 408)
    return true;
  S3Error error = ReadError(answer);
  if (error.code == "SlowDown" || error.code == "RequestTimeout" ||
      error.code == "ConditionalRequestConflict" || error.code == "OperationAborted" ||
      error.code == "InternalError")
    return true;
  if (error.code == "ExpiredToken") {
    credentials_.Forget();
    return *adapted = true;
  }
  if (error.code == "RequestTimeTooSkewed") {
    int64_t server_ns = ParseTime(std::string(answer.header("date")));
    if (server_ns == 0) return false;
    clock_offset_s_ = server_ns / 1'000'000'000 - time(nullptr);
    return *adapted = true;
  }
  std::lock_guard lock(mutex_);
  bool misplaced = status == 301 || status == 307 ||
                   (status == 400 && (error.code == "AuthorizationHeaderMalformed" || error.code.empty()));
  if (!misplaced || error.region.empty() || error.region == region_) return false;
  region_ = error.region;
  return *adapted = true;
}

bool S3Connection::Backoff(unsigned attempt, const HttpResponse* answer) {
  unsigned longest = std::min(kLongestBackoff_ms, kFirstBackoff_ms << std::min(attempt, 10u));
  thread_local std::minstd_rand random(std::random_device{}());
  unsigned wait = std::uniform_int_distribution<unsigned>(longest / 4, longest)(random);
  if (answer) {
    unsigned asked = unsigned(atoi(std::string(answer->header("retry-after")).c_str())) * 1000;
    wait = std::max(wait, std::min(asked, 2 * kLongestBackoff_ms));
  }
  return http_.Sleep(wait);
}

std::string S3Connection::Server() {
  std::lock_guard lock(mutex_);
  const Place place = PlaceOf(region_);
  return is_aws() ? "Amazon S3" : place.scheme + place.host;
}

Result<S3Answer> S3Connection::Send(const S3Call& call) {
  Silence& silence = call.method == "GET" || call.method == "HEAD" ? reads_ : changes_;
  const auto begun = Silence::Clock::now();
  const auto patience = silence.Patience(begun);
  if (patience == Silence::Clock::duration::zero())
    return Error{ETIMEDOUT, Server() + ": it has not answered for some time, and is asked again later"};
  std::string sha256 = Sha256Hex(call.body);
  unsigned adaptations = 0;
  bool perhaps_done = false;
  auto unanswered = Silence::Clock::duration::zero();
  for (unsigned attempt = 1;; ++attempt) {
    const auto sent = Silence::Clock::now();
    auto answer = SendOnce(call, sha256);
    const auto now = Silence::Clock::now();
    if (answer || answer.error().code != ETIMEDOUT)
      silence.Answered(now);
    else  // It may have waited for its turn before.
      unanswered += std::min(now - sent, silence.stall_timeout());
    bool adapted = false;
    bool repeat = answer ? WorthRepeating(*answer, &adapted) : TransportMayBeRepeated(answer.error().code);
    perhaps_done = perhaps_done || (answer && answer->sendings > 1);
    bool last = attempt >= options_.attempts || unanswered >= patience || (adapted && ++adaptations > 3);
    if (!repeat || last) {
      if (answer) return S3Answer{std::move(*answer), perhaps_done};
      if (answer.error().code == ETIMEDOUT) silence.Unanswered(begun, now);
      std::string where = Server();
      where.append(": ").append(answer.error().message);
      if (attempt > 1) where.append(" (after ").append(std::to_string(attempt)).append(" attempts)");
      return Error{answer.error().code, where};
    }
    perhaps_done = perhaps_done || !RulesOutItsEffect(answer);
    if (!adapted && !Backoff(attempt, answer ? &*answer : nullptr)) return Error{ECANCELED, "interrupted"};
  }
}

std::vector<Result<S3Answer>> S3Connection::SendAll(std::span<const S3Call> calls) {
  std::vector<Result<S3Answer>> results;
  if (reads_.silent()) {
    for (auto& call : calls) results.push_back(Send(call));
    return results;
  }
  std::vector<HttpRequest> requests;
  for (auto& call : calls) {
    auto request = Signed(call, Sha256Hex(call.body));
    if (!request) return std::vector<Result<S3Answer>>(calls.size(), request.error());
    requests.push_back(std::move(*request));
  }
  auto answers = http_.PerformAll(requests);
  for (size_t i = 0; i < calls.size(); ++i) {
    bool adapted;
    const bool again = !answers[i] || WorthRepeating(*answers[i], &adapted);
    results.push_back(again ? Send(calls[i]) : S3Answer{std::move(*answers[i])});
  }
  return results;
}

// A HEAD that finds nothing has no body that says whether the object or the bucket is missing: ask once.
Status S3Connection::CheckBucket() {
  if (bucket_seen_) return Ok{};
  auto answer = Send({.method = "GET", .query = {{"list-type", "2"}, {"max-keys", "0"}}});
  if (!answer) return answer.error();
  S3Error error = ReadError(answer->http);
  if (error.code == "NoSuchBucket") return Error{ENXIO, "there is no such bucket"};
  bucket_seen_ = true;
  return Ok{};
}

Error S3Connection::ErrorOf(const HttpResponse& answer, const std::string& what) {
  std::string prefix = "s3://" + bucket_ + ": " + what + ": ";
  S3Error error = ReadError(answer);
  for (auto& meaning : kMeanings)
    if (meaning.code == error.code) {
      std::string message = prefix + std::string(meaning.hint);
      if (!error.message.empty() && meaning.error != ENOENT)
        message.append(" (").append(error.message).append(")");
      return Error{meaning.error, message};
    }
  int code = CodeOfStatus(answer.status);
  if (code == ENOENT && error.code.empty()) {
    auto bucket = CheckBucket();
    if (!bucket) return Error{bucket.error().code, prefix + bucket.error().message};
    return Error{ENOENT, prefix + "no such object"};
  }
  std::string text = error.code.empty() ? "status " + std::to_string(answer.status) : error.code;
  if (code == EACCES && error.code.empty()) text = "permission denied, or wrong keys";
  if (!error.message.empty()) text += " (" + error.message + ")";
  return Error{code, prefix + text};
}

}  // namespace elsewhere::store
