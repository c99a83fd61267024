// Plain files of other hosts that processes of this host inherited: opened again by name, or, where they have
// none and nobody can write them, made anew; read and written here, with the offset of the description that
// they stand for.
//
// The offset is shared as memory is (runtime/ipc): each host has its own, and who learns of what a process
// did finds the offset that it left. Before any message leaves, a host tells the origin of those that moved
// here; the origin moves its description, which its own processes share, and tells the other hosts before its
// next message to any of them. An agent shares its processes' descriptions, so nothing of this is seen by a
// call. Two hosts that move one at the same time go each its own way, the last one told of prevails, and the
// session's summary says so.
//
// A file that is only read is read by one host at a time, where the right to the offset is
// (origin_offset.cpp): there the offset is where it is, elsewhere it is away. It stays for a moment at least,
// for who has asked to read. Thread-safety: none; everything runs on the agent's loop.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "runtime/agent.h"
#include "runtime/stream/descriptor.h"
#include "runtime/stream/grants.h"
#include "shim/wire/stream_message.h"

namespace elsewhere::runtime::stream {

using wire::StreamId;

class PlainFiles {
 public:
  explicit PlainFiles(Agent& agent) : agent_(agent) {}

  // A descriptor for the processes of one job, of `opened`, unless the host has the file already. `origin`:
  // where messages about it go.
  bool Has(StreamId id) const { return files_.count(id) != 0; }
  Result<Descriptor> OpenAgain(const wire::JobDescriptor& entry, uint32_t grant);
  Result<Descriptor> Add(const wire::JobDescriptor& entry, uint32_t grant, HostId origin, Descriptor opened);
  void NoteGrant(StreamId id, uint32_t grant);
  // The stream that a process's descriptor stands for; 0: none.
  StreamId StreamOf(pid_t process, int descriptor) const;

  // No process has it any more, and no job that is about to start.
  void Close(StreamId id);

  // The origin has moved it on behalf of a process of this host.
  void SetOffset(StreamId id, int64_t offset);
  // It is this host's from now on.
  void TakeOffset(StreamId id, int64_t offset);
  // Tells the origins of offsets that moved here (Component::BeforeSend).
  void TellOffsets();
  // An origin's offset moved; it may name a file whose job is still on its way.
  void OnOffset(const wire::StreamOffsetNow& moved, HostId origin);
  void Clear() { files_.clear(); }

 private:
  struct PlainFile {
    Descriptor descriptor;
    HostId origin = 0;
    int64_t offset = 0;  // as the origin knows it
    Grants grants;
    std::chrono::steady_clock::time_point taken{};  // the right to the offset
  };
  void Remember(StreamId id, int64_t offset);
  void GiveUpOffset(StreamId id, HostId origin);

  Agent& agent_;
  std::unordered_map<StreamId, PlainFile> files_;
  // Of files that are not here, where they are as far as this host knows: a job on its way says where they
  // were when it was made. The last ones; most will never be named again.
  static constexpr size_t kRemembered = 4096;
  std::unordered_map<StreamId, int64_t> known_;
  std::deque<StreamId> known_order_;
  const std::shared_ptr<const bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace elsewhere::runtime::stream
