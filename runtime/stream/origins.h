// Every open file description of this host that other hosts hold: who is who, and who has which.
//
// Descriptors of a captured process are recognised by identity: (device, inode, access mode) for pipes and
// sockets, kcmp against the held dup for plain files (two opens of one file differ, two dups do not). So what
// an earlier capture brought costs one hash lookup, however many processes inherit it.
// Thread-safety: none; everything runs on the agent's loop.
#pragma once

#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "runtime/agent.h"
#include "runtime/stream/classify.h"
#include "runtime/stream/origin_stream.h"
#include "runtime/stream/pipe_moves.h"
#include "shim/wire/image.h"

namespace elsewhere::runtime::stream {

class Origins {
 public:
  Origins(Agent& agent, Passing& passing);

  // Fills in how `entry` of a captured process gets to `target`. `held`: a dup that was handed over, taken if
  // it is kept; -1 where the capture relied on an earlier one. An error is the reason why the process must
  // stay.
  Result<wire::JobDescriptor> Grant(HostId target, const image::Descriptor& entry, const std::string& link,
                                    int& held);
  // A dup of the description that `share` names; empty: there is no such share (any more).
  Descriptor Open(StreamId share);
  // `share` is another name of it for `host`. False: `stream` has ended.
  bool AddShare(StreamId stream, StreamId share, HostId host);
  // The bytes that a pipe which moved here has before its own.
  void SetFirst(StreamId share, std::shared_ptr<FirstBytes> first);
  // nullptr: there is no such share (any more).
  OriginStream* OfShare(StreamId id);
  // Takes back what Grant gave for this entry.
  void Withdraw(const wire::JobDescriptor& descriptor);

  // Runs `done` when what was sent so far for `streams` is in, except where one is stuck.
  void WhenWritten(const std::vector<StreamId>& streams, wire::Patience patience, OriginStream::Action done);
  // Tells the hosts that share a plain file's offset where it is, and those whose streams are broken.
  void BeforeSend();
  void HostGone(HostId host);
  void ProcessContinued(Incarnation process);
  void LockerEnded(int32_t process);
  void Clear();

  size_t size() const { return by_share_.size(); }

 private:
  struct Key {
    ObjectId object;
    uint32_t mode;  // access mode and kind
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const { return ObjectIdHash()(key.object) * 31 + key.mode; }
  };
  struct Entry {
    std::unique_ptr<OriginStream> stream;
    Key key;
  };

  OriginStream* Find(const Key& key, Kind kind, int held);
  Result<OriginStream*> Adopt(const Key& key, Kind kind, int& held, int flags);
  StreamId ShareFor(OriginStream& stream, HostId target);
  void Unread(OriginStream& stream);
  void LookForShutdowns();
  // `action` may end streams.
  template <class Action>
  void ForEach(Action action);
  void Forget(OriginStream& stream);
  void TellOffsets();
  void SayBroken(HostId host, const wire::StreamBroken& broken);
  void SendBroken();
  template <class M, class Handler>
  void Route(Handler handler);

  Agent& agent_;
  Passing& passing_;
  PipeMoves moves_;
  std::unordered_map<OriginStream*, Entry> entries_;
  std::unordered_multimap<Key, OriginStream*, KeyHash> by_key_;
  std::unordered_map<StreamId, OriginStream*> by_share_;
  std::unordered_set<OriginStream*> carrying_;  // of plain files
  // A process that ends may be the last reader of many; before each message that goes by itself shared memory
  // is compared.
  std::vector<std::pair<HostId, wire::StreamBroken>> broken_;
  uint64_t next_id_ = 1;
};

}  // namespace elsewhere::runtime::stream
