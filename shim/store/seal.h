// The session's secret and what is done with it: sealing what leaves the machine, and naming chunks.
//
// Sealed form: version byte 1, 16 random bytes, AES-256-GCM ciphertext of the same length as the plaintext,
// 16 bytes of tag. The key and the nonce of each message are derived from the session key and its random
// bytes:
//   block = HMAC-SHA256(seal key, 0x01 || random), HMAC-SHA256(seal key, 0x02 || random)
//   key = first 32 bytes, nonce = next 12
// so no counter has to survive a crash, a fork or a second agent: a (key, nonce) pair comes back only when
// two random 128-bit values are equal. `context` is authenticated but not sent: opening under another context
// fails, which keeps one object from being passed off as another.
//
// Chunk names are keyed too (HMAC-SHA256 cut to 128 bits), so a name tells a store nothing about a known
// content.
//
// Thread-safety: a const SessionKey may be used from any thread. Keys are wiped when destroyed.
// Source: NIST SP 800-38D, RFC 2104; key per message as in XAES-256-GCM (C2SP).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "shim/wire/result.h"

namespace elsewhere::store {

inline constexpr size_t kSealOverhead = 1 + 16 + 16;

using ChunkName = std::array<uint8_t, 16>;
std::string ToHex(const ChunkName& name);

class SessionKey {
 public:
  static Result<SessionKey> Generate();
  // 64 hexadecimal digits, as ToHex gives them: for handing the key to a worker over an authenticated
  // channel.
  static Result<SessionKey> FromHex(std::string_view hex);
  std::string ToHex() const;

  SessionKey(SessionKey&&) noexcept;
  SessionKey& operator=(SessionKey&&) noexcept;
  ~SessionKey();

  Result<std::string> Seal(std::string_view plaintext, std::string_view context) const;
  // EBADMSG: not sealed with this key and context, or changed since.
  Result<std::string> Open(std::string_view sealed, std::string_view context) const;
  // The same without allocating: `out` has exactly plaintext.size() + kSealOverhead bytes, or that many less.
  Status SealInto(std::string_view plaintext, std::string_view context, std::span<char> out) const;
  Status OpenInto(std::string_view sealed, std::string_view context, std::span<char> out) const;

  // The store's name of a chunk: equal for equal content within a session, unrelated between sessions.
  ChunkName NameOf(std::string_view content) const;

 private:
  struct State;
  explicit SessionKey(std::unique_ptr<State> state);
  static Result<SessionKey> FromBytes(std::span<const uint8_t, 32> bytes);

  std::unique_ptr<State> state_;
};

}  // namespace elsewhere::store
