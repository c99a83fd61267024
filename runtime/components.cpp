#include "runtime/components.h"

#include "runtime/files.h"
#include "runtime/ipc.h"
#include "runtime/ipc/kernel_calls.h"
#include "runtime/streams.h"

namespace elsewhere::runtime {

Status AddComponents(AgentCore& core, const FileOptions& files) {
  if (!files.maps.empty()) {
    auto made = MakeFiles(core, files);
    if (!made) return made.error();
    core.Add(std::move(*made));
  }
  core.Add(MakeIpc(core));
  core.Add(MakeStreams(core));
  core.Add(MakeKernelCalls(core));
  if (core.object_counts() == nullptr) return Ok{};
  if (!core.is_home()) {
    core.Add(MakeCountSender(core));
  } else {
    core.OnMessage<wire::ObjectCounts>(
        [&core](HostId, wire::ObjectCounts&& counts) { core.object_counts()->Merge(counts); });
  }
  return Ok{};
}

std::string MarkerSecret(const store::SessionKey& key) {
  return store::ToHex(key.NameOf("marker"));
}

}  // namespace elsewhere::runtime
