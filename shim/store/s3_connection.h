// S3Connection: signed requests to one bucket, repeated where that is right.
//
// Repeated, with exponential backoff and full jitter: broken connections, time-outs, 500, 502, 503, 504, 429,
// 408, SlowDown, RequestTimeout and 409 ConditionalRequestConflict. Once more each: after a wrong region (the
// right one is taken over), after expired credentials (fetched again), after RequestTimeTooSkewed (the
// clock's difference is taken over). Nothing else is repeated. A server that answers nothing is not waited
// for by every call anew (silence.h).
//
// Thread-safety: every method may be called from any thread; Send blocks.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "shim/store/http_client.h"
#include "shim/store/object_store.h"
#include "shim/store/s3_credentials.h"
#include "shim/store/s3_sign.h"
#include "shim/store/silence.h"

namespace elsewhere::store {

struct S3Call {
  std::string method;
  std::string key{};  // the full one; empty: the bucket itself
  std::map<std::string, std::string> query{};
  std::map<std::string, std::string> headers{};  // names in lower case
  std::span<const std::string_view> body{};
  std::optional<std::span<char>> into = std::nullopt;
};

struct S3Answer {
  HttpResponse http;
  // An earlier sending of the same request may have been carried out without our hearing of it.
  bool perhaps_done = false;
};

class S3Connection {
 public:
  static Result<std::unique_ptr<S3Connection>> Open(const std::string& bucket, const StoreOptions& options);

  // Any status is a success here but those that stayed after all attempts.
  Result<S3Answer> Send(const S3Call& call);
  // The same of calls that change nothing, side by side; a result for each, in their order.
  std::vector<Result<S3Answer>> SendAll(std::span<const S3Call> calls);

  // The error that a status of 300 and more stands for. `what` begins the message ("get KEY").
  Error ErrorOf(const HttpResponse& answer, const std::string& what);

  void Interrupt() { http_.Interrupt(); }
  const std::string& bucket() const { return bucket_; }
  bool is_aws() const { return custom_endpoint_.empty(); }
  const std::string& endpoint() const { return custom_endpoint_; }  // empty: Amazon's

 private:
  S3Connection(std::string bucket, const StoreOptions& options);
  Status Configure();
  // Where the bucket is: scheme "http://", host, path before the key.
  struct Place {
    std::string scheme, host, path;
  };
  Place PlaceOf(const std::string& region) const;
  std::string Server();  // for messages
  Result<HttpRequest> Signed(const S3Call& call, std::string_view sha256);
  Result<HttpResponse> SendOnce(const S3Call& call, std::string_view sha256);
  bool WorthRepeating(const HttpResponse& answer, bool* adapted);
  bool Backoff(unsigned attempt, const HttpResponse* answer);
  Status CheckBucket();

  const std::string bucket_;
  const StoreOptions options_;
  std::string custom_endpoint_;
  bool path_style_ = false;
  S3CredentialSource credentials_;
  HttpClient http_;
  Silence reads_, changes_;  // such a server may answer the ones and not the others
  std::mutex mutex_;
  std::string region_;  // under mutex_
  std::atomic<int64_t> clock_offset_s_{0};
  std::atomic<bool> bucket_seen_{false};
};

}  // namespace elsewhere::store
