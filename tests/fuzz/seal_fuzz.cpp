// Any bytes as something sealed: never opened, unless it was sealed with the key for that context.

// links: shim/store/seal.cpp -lcrypto
#include <cstdint>
#include <cstdlib>

#include "shim/store/seal.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using elsewhere::store::SessionKey;
  static const SessionKey key = *SessionKey::FromHex(std::string(64, '5'));
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (key.Open(text, "context")) std::abort();
  auto sealed = key.Seal(text, "context");
  if (!sealed) std::abort();
  const auto opened = key.Open(*sealed, "context");
  if (!opened || *opened != text || key.Open(*sealed, "another")) std::abort();
  if (size > 0) {
    (*sealed)[data[0] % sealed->size()] ^= static_cast<char>(1 << (size % 8));
    if (key.Open(*sealed, "context")) std::abort();
  }
  return 0;
}
