#include "runtime/components.h"

#include "shim/broker/session_keys.h"

namespace elsewhere::runtime {

void AddComponents(AgentCore& /*core*/) {}

std::vector<std::string_view> AllScripts() {
  return broker::SessionScripts();
}

std::string MarkerSecret(const store::SessionKey& key) {
  return store::ToHex(key.NameOf("marker"));
}

}  // namespace elsewhere::runtime
