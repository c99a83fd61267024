#include "runtime/components.h"

#include "runtime/ipc.h"
#include "runtime/streams.h"
#include "shim/broker/session_keys.h"

namespace elsewhere::runtime {

void AddComponents(AgentCore& core) {
  core.Add(MakeIpc(core));
  core.Add(MakeStreams(core));
}

std::vector<std::string_view> AllScripts() {
  std::vector<std::string_view> scripts = broker::SessionScripts();
  for (const std::string_view script : IpcScripts()) scripts.push_back(script);
  return scripts;
}

std::string MarkerSecret(const store::SessionKey& key) {
  return store::ToHex(key.NameOf("marker"));
}

}  // namespace elsewhere::runtime
