// Home: descriptors of a child that is not decided yet. Those of pipes and sockets are there in its deputy's
// place (preload/deputy_streams.h): they go when the child runs elsewhere, or back.
// Thread-safety: none, like any value.
#pragma once

#include <vector>

#include "runtime/agent.h"
#include "runtime/connections.h"
#include "shim/store/unique_fd.h"
#include "shim/wire/image_view.h"

namespace elsewhere::runtime {

class KeptDescriptors {
 public:
  void Add(store::UniqueFd descriptor) { all_.push_back({std::move(descriptor), -1, 0, false}); }
  size_t size() const { return all_.size(); }
  int Get(size_t attached) const { return all_[attached].descriptor.get(); }
  // Learns from the image which is which. False: the image names one that has not come.
  bool Name(const image::View& view);
  bool HasStreams() const;
  // For those who take them: what takes the child's first worker away takes these, too, and the next one is
  // given others. Whoever has no use for one closes it. Errors: EMFILE.
  Result<std::vector<HeldDescriptor>> Copies() const;
  void CloseOthers();  // than pipes and sockets
  void Clear() { all_.clear(); }
  // Gives pipes and sockets back with as many packets of that kind as it takes, one at least. Until that is
  // answered they must be somewhere where they are seen, so this keeps them.
  void SendBack(Connections& connections, ConnectionId connection, const abi::Refused& packet,
                abi::Packet type) const;

 private:
  struct Kept {
    store::UniqueFd descriptor;
    int32_t number;
    int32_t flags;
    bool is_stream;
  };
  std::vector<Kept> all_;
};

}  // namespace elsewhere::runtime
