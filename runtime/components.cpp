#include "runtime/components.h"

namespace elsewhere::runtime {

void AddComponents(AgentCore& /*core*/) {}

std::string MarkerSecret(const store::SessionKey& key) {
  return store::ToHex(key.NameOf("marker"));
}

}  // namespace elsewhere::runtime
