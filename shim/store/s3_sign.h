// AWS Signature Version 4 as S3 wants it: the path is encoded once, the payload's hash is a header.
// Thread-safety: functions without state. Source: "Authenticating Requests (AWS Signature Version 4)", Amazon
// S3 API reference.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace elsewhere::store {

struct S3Credentials {
  std::string access_key;
  std::string secret_key;
  std::string session_token{};
  int64_t expires_s = INT64_MAX;  // seconds since 1970
};

struct S3Request {
  std::string method;
  std::string host;                              // with the port unless it is the scheme's own
  std::string path;                              // not encoded, with its leading '/'
  std::map<std::string, std::string> query{};    // not encoded
  std::map<std::string, std::string> headers{};  // names in lower case; all of them are signed
};

// Adds x-amz-date, x-amz-content-sha256, x-amz-security-token and authorization to the headers.
void SignS3(const S3Credentials& credentials, std::string_view region, int64_t now_s,
            std::string_view payload_sha256, S3Request* request);

// As signatures and URLs need it: all but unreserved characters become %XX; '/' too unless it is kept.
std::string PercentEncode(std::string_view text, bool keep_slash);
// %XX and, as S3's listings have it, '+' for a blank.
std::string PercentDecode(std::string_view text);
std::string EncodedQuery(const std::map<std::string, std::string>& query);

std::string Sha256Hex(std::span<const std::string_view> pieces);
std::string Md5Hex(std::string_view data);
std::string Md5Base64(std::string_view data);

}  // namespace elsewhere::store
