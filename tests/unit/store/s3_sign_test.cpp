// The examples of "Authenticating Requests: Using the Authorization Header", Amazon S3 API reference.
#include "shim/store/s3_sign.h"

#include <gtest/gtest.h>

namespace elsewhere::store {
namespace {

constexpr int64_t kExampleTime = 1369353600;  // 24 May 2013, 00:00:00 UTC
const S3Credentials kExample{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};
constexpr char kNothing[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

std::string SignatureOf(S3Request request, std::string_view sha256 = kNothing) {
  request.host = "examplebucket.s3.amazonaws.com";
  SignS3(kExample, "us-east-1", kExampleTime, sha256, &request);
  std::string value = request.headers["authorization"];
  return value.substr(value.find("Signature=") + 10);
}

TEST(S3Sign, GetWithRange) {
  EXPECT_EQ(
      SignatureOf({.method = "GET", .host = "", .path = "/test.txt", .headers = {{"range", "bytes=0-9"}}}),
      "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

TEST(S3Sign, Put) {
  std::string_view body = "Welcome to Amazon S3.";
  std::string sha256 = Sha256Hex(std::span(&body, 1));
  EXPECT_EQ(sha256, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
  EXPECT_EQ(SignatureOf({.method = "PUT",
                         .host = "",
                         .path = "/test$file.text",
                         .headers = {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
                                     {"x-amz-storage-class", "REDUCED_REDUNDANCY"}}},
                        sha256),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

TEST(S3Sign, QueryWithoutValue) {
  EXPECT_EQ(SignatureOf({.method = "GET", .host = "", .path = "/", .query = {{"lifecycle", ""}}}),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

TEST(S3Sign, QueryIsSorted) {
  EXPECT_EQ(
      SignatureOf({.method = "GET", .host = "", .path = "/", .query = {{"prefix", "J"}, {"max-keys", "2"}}}),
      "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

TEST(S3Sign, SessionTokenIsSigned) {
  S3Credentials temporary = kExample;
  temporary.session_token = "token";
  S3Request request{.method = "GET", .host = "h", .path = "/"};
  SignS3(temporary, "eu-west-1", kExampleTime, kNothing, &request);
  EXPECT_EQ(request.headers["x-amz-security-token"], "token");
  EXPECT_NE(request.headers["authorization"].find(";x-amz-security-token,"), std::string::npos);
  EXPECT_NE(request.headers["authorization"].find("/20130524/eu-west-1/s3/aws4_request"), std::string::npos);
}

TEST(S3Sign, PercentEncoding) {
  EXPECT_EQ(PercentEncode("a/b c~\xc3\xa4+", true), "a/b%20c~%C3%A4%2B");
  EXPECT_EQ(PercentEncode("a/b", false), "a%2Fb");
  EXPECT_EQ(PercentDecode("a%2Fb+c%C3%A4%"), "a/b c\xc3\xa4%");
  EXPECT_EQ(PercentDecode("%zz%4"), "%zz%4");
}

TEST(S3Sign, Digests) {
  EXPECT_EQ(Md5Hex(""), "d41d8cd98f00b204e9800998ecf8427e");
  EXPECT_EQ(Md5Base64("x"), "ndTkYSaMgDT1yFZOFVxnpg==");
}

}  // namespace
}  // namespace elsewhere::store
