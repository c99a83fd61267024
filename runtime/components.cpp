#include "runtime/components.h"

#include "runtime/ipc.h"
#include "runtime/ipc/kernel_calls.h"
#include "runtime/streams.h"

namespace elsewhere::runtime {

void AddComponents(AgentCore& core) {
  core.Add(MakeIpc(core));
  core.Add(MakeStreams(core));
  core.Add(MakeKernelCalls(core));
}

std::string MarkerSecret(const store::SessionKey& key) {
  return store::ToHex(key.NameOf("marker"));
}

}  // namespace elsewhere::runtime
