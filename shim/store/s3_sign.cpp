#include "shim/store/s3_sign.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstdlib>
#include <ctime>
#include <memory>

namespace elsewhere::store {
namespace {

struct DigestFree {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

std::string Digest(const EVP_MD* kind, std::span<const std::string_view> pieces) {
  std::unique_ptr<EVP_MD_CTX, DigestFree> context(EVP_MD_CTX_new());
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  bool good = context && EVP_DigestInit_ex(context.get(), kind, nullptr);
  for (auto piece : pieces) good = good && EVP_DigestUpdate(context.get(), piece.data(), piece.size());
  if (!good || !EVP_DigestFinal_ex(context.get(), out, &size)) std::abort();  // only for want of memory
  return std::string(reinterpret_cast<char*>(out), size);
}

std::string Hmac(std::string_view key, std::string_view data) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (!HMAC(EVP_sha256(), key.data(), int(key.size()), reinterpret_cast<const unsigned char*>(data.data()),
            data.size(), out, &size))
    std::abort();
  return std::string(reinterpret_cast<char*>(out), size);
}

std::string Hex(std::string_view bytes) {
  std::string hex;
  for (unsigned char byte : bytes) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// Header values are signed without blanks at their ends, and with one where several follow each other.
std::string Collapsed(std::string_view value) {
  std::string out;
  for (char c : value)
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

std::string Sha256Hex(std::span<const std::string_view> pieces) {
  return Hex(Digest(EVP_sha256(), pieces));
}
std::string Md5Hex(std::string_view data) {
  return Hex(Digest(EVP_md5(), std::span(&data, 1)));
}

std::string Md5Base64(std::string_view data) {
  std::string raw = Digest(EVP_md5(), std::span(&data, 1));
  unsigned char out[32];
  int size = EVP_EncodeBlock(out, reinterpret_cast<const unsigned char*>(raw.data()), int(raw.size()));
  return std::string(reinterpret_cast<char*>(out), size_t(size));
}

std::string PercentEncode(std::string_view text, bool keep_slash) {
  std::string out;
  out.reserve(text.size());
  for (unsigned char c : text) {
    bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                 c == '_' || c == '.' || c == '~' || (c == '/' && keep_slash);
    if (plain) {
      out += char(c);
    } else {
      out += '%';
      out += "0123456789ABCDEF"[c >> 4];
      out += "0123456789ABCDEF"[c & 15];
    }
  }
  return out;
}

std::string PercentDecode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
    if (text[i] == '%' && high >= 0 && low >= 0) {
      out += char(high << 4 | low);
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

// Sorting by name before encoding gives the order of the encoded names for all names that S3 has.
std::string EncodedQuery(const std::map<std::string, std::string>& query) {
  std::string out;
  for (auto& [name, value] : query) {
    if (!out.empty()) out += '&';
    out += PercentEncode(name, false) + "=" + PercentEncode(value, false);
  }
  return out;
}

void SignS3(const S3Credentials& credentials, std::string_view region, int64_t now_s,
            std::string_view payload_sha256, S3Request* request) {
  time_t seconds = time_t(now_s);
  tm parts;
  gmtime_r(&seconds, &parts);
  char stamp[32];
  strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &parts);
  std::string day(stamp, 8);

  auto& headers = request->headers;
  headers["host"] = request->host;
  headers["x-amz-date"] = stamp;
  headers["x-amz-content-sha256"] = payload_sha256;
  if (!credentials.session_token.empty()) headers["x-amz-security-token"] = credentials.session_token;

  std::string canonical = request->method + "\n" + PercentEncode(request->path, true) + "\n" +
                          EncodedQuery(request->query) + "\n";
  std::string names;
  for (auto& [name, value] : headers) {
    canonical.append(name).append(":").append(Collapsed(value)).append("\n");
    names.append(names.empty() ? "" : ";").append(name);
  }
  canonical += "\n" + names + "\n" + std::string(payload_sha256);

  std::string_view whole = canonical;
  std::string scope = day + "/" + std::string(region) + "/s3/aws4_request";
  std::string to_sign =
      std::string("AWS4-HMAC-SHA256\n") + stamp + "\n" + scope + "\n" + Sha256Hex(std::span(&whole, 1));
  std::string key =
      Hmac(Hmac(Hmac(Hmac("AWS4" + credentials.secret_key, day), region), "s3"), "aws4_request");
  headers["authorization"] = "AWS4-HMAC-SHA256 Credential=" + credentials.access_key + "/" + scope +
                             ",SignedHeaders=" + names + ",Signature=" + Hex(Hmac(key, to_sign));
}

}  // namespace elsewhere::store
