#include "shim/store/seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <cstdlib>
#include <cstring>

namespace elsewhere::store {
namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kRandomSize = 16;
constexpr size_t kTagSize = 16;
constexpr size_t kNonceSize = 12;

using Bytes32 = std::array<uint8_t, 32>;

struct CipherFree {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, CipherFree>;

const uint8_t* Raw(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

// OpenSSL fails here only when memory is exhausted, which may end our processes (runtime policy).
Bytes32 Hmac(const Bytes32& key, std::string_view data) {
  Bytes32 out;
  unsigned size = 0;
  if (!HMAC(EVP_sha256(), key.data(), int(key.size()), Raw(data), data.size(), out.data(), &size))
    std::abort();
  return out;
}

struct MessageKey {
  Bytes32 key;
  std::array<uint8_t, kNonceSize> nonce;
  ~MessageKey() { OPENSSL_cleanse(this, sizeof *this); }
};

void Derive(const Bytes32& seal_key, const uint8_t* random, MessageKey& out) {
  char input[1 + kRandomSize];
  memcpy(input + 1, random, kRandomSize);
  input[0] = 1;
  out.key = Hmac(seal_key, {input, sizeof input});
  input[0] = 2;
  Bytes32 second = Hmac(seal_key, {input, sizeof input});
  memcpy(out.nonce.data(), second.data(), out.nonce.size());
}

// GCM itself allows 64 GiB a message, but EVP's lengths are ints: feed it in pieces.
template <class Update>
bool InPieces(Update update, EVP_CIPHER_CTX* context, uint8_t* out, std::string_view in) {
  constexpr size_t kPiece = size_t{1} << 30;
  while (!in.empty()) {
    std::string_view piece = in.substr(0, kPiece);
    int written = 0;
    if (!update(context, out, &written, Raw(piece), int(piece.size()))) return false;
    if (out) out += piece.size();
    in.remove_prefix(piece.size());
  }
  return true;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string HexOf(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (uint8_t byte : bytes) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

}  // namespace

std::string ToHex(const ChunkName& name) {
  return HexOf(name);
}

struct SessionKey::State {
  Bytes32 master, seal, name;
  ~State() { OPENSSL_cleanse(this, sizeof *this); }
};

SessionKey::SessionKey(std::unique_ptr<State> state) : state_(std::move(state)) {}
SessionKey::SessionKey(SessionKey&&) noexcept = default;
SessionKey& SessionKey::operator=(SessionKey&&) noexcept = default;
SessionKey::~SessionKey() = default;

Result<SessionKey> SessionKey::FromBytes(std::span<const uint8_t, 32> bytes) {
  auto state = std::make_unique<State>();
  memcpy(state->master.data(), bytes.data(), bytes.size());
  state->seal = Hmac(state->master, "elsewhere 1 seal");
  state->name = Hmac(state->master, "elsewhere 1 chunk name");
  return SessionKey(std::move(state));
}

Result<SessionKey> SessionKey::Generate() {
  Bytes32 bytes;
  if (RAND_priv_bytes(bytes.data(), int(bytes.size())) != 1)
    return Error{EIO, "no random bytes for the session key"};
  auto key = FromBytes(bytes);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return key;
}

Result<SessionKey> SessionKey::FromHex(std::string_view hex) {
  Bytes32 bytes;
  if (hex.size() != 2 * bytes.size()) return Error{EINVAL, "a session key has 64 hexadecimal digits"};
  for (size_t i = 0; i < bytes.size(); ++i) {
    int high = HexDigit(hex[2 * i]), low = HexDigit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return Error{EINVAL, "a session key has 64 hexadecimal digits"};
    bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  auto key = FromBytes(bytes);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return key;
}

std::string SessionKey::ToHex() const {
  return HexOf(state_->master);
}

Status SessionKey::SealInto(std::string_view plaintext, std::string_view context, std::span<char> out) const {
  if (out.size() != plaintext.size() + kSealOverhead) return Error{EINVAL, "seal: output of the wrong size"};
  auto* bytes = reinterpret_cast<uint8_t*>(out.data());
  bytes[0] = kVersion;
  if (RAND_bytes(bytes + 1, kRandomSize) != 1) return Error{EIO, "seal: no random bytes"};
  MessageKey key;
  Derive(state_->seal, bytes + 1, key);
  uint8_t* body = bytes + 1 + kRandomSize;
  Cipher cipher(EVP_CIPHER_CTX_new());
  int none = 0;
  bool good =
      cipher &&
      EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key.key.data(), key.nonce.data()) &&
      InPieces(EVP_EncryptUpdate, cipher.get(), nullptr, context) &&
      InPieces(EVP_EncryptUpdate, cipher.get(), body, plaintext) &&
      EVP_EncryptFinal_ex(cipher.get(), body + plaintext.size(), &none) &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagSize, body + plaintext.size());
  if (!good) return Error{EIO, "seal: encryption failed"};
  return Ok{};
}

Status SessionKey::OpenInto(std::string_view sealed, std::string_view context, std::span<char> out) const {
  if (sealed.size() < kSealOverhead || uint8_t(sealed[0]) != kVersion)
    return Error{EBADMSG, "not a sealed message: " + std::string(context)};
  if (out.size() != sealed.size() - kSealOverhead) return Error{EINVAL, "open: output of the wrong size"};
  MessageKey key;
  Derive(state_->seal, Raw(sealed) + 1, key);
  std::string_view body = sealed.substr(1 + kRandomSize, out.size());
  uint8_t tag[kTagSize];
  memcpy(tag, sealed.data() + sealed.size() - kTagSize, kTagSize);
  Cipher cipher(EVP_CIPHER_CTX_new());
  int none = 0;
  uint8_t unused[16];
  bool good =
      cipher &&
      EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key.key.data(), key.nonce.data()) &&
      InPieces(EVP_DecryptUpdate, cipher.get(), nullptr, context) &&
      InPieces(EVP_DecryptUpdate, cipher.get(), reinterpret_cast<uint8_t*>(out.data()), body) &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagSize, tag) &&
      EVP_DecryptFinal_ex(cipher.get(), unused, &none) == 1;
  if (good) return Ok{};
  // Unauthenticated plaintext must not be used by accident.
  if (!out.empty()) OPENSSL_cleanse(out.data(), out.size());
  return Error{EBADMSG, "sealed with another key or changed since: " + std::string(context)};
}

Result<std::string> SessionKey::Seal(std::string_view plaintext, std::string_view context) const {
  std::string out(plaintext.size() + kSealOverhead, '\0');
  auto status = SealInto(plaintext, context, out);
  if (!status) return status.error();
  return out;
}

Result<std::string> SessionKey::Open(std::string_view sealed, std::string_view context) const {
  std::string out(sealed.size() < kSealOverhead ? 0 : sealed.size() - kSealOverhead, '\0');
  auto status = OpenInto(sealed, context, out);
  if (!status) return status.error();
  return out;
}

ChunkName SessionKey::NameOf(std::string_view content) const {
  Bytes32 full = Hmac(state_->name, content);
  ChunkName name;
  memcpy(name.data(), full.data(), name.size());
  return name;
}

}  // namespace elsewhere::store
