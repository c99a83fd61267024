// System V segments at home, as this agent attaches them to share them with other hosts.
//
// A segment has no descriptor that could be handed on, so the agent attaches it by its id. The kernel counts
// that as one more process; abi::TableHeader::attached_segments lists such ids so that shmctl can answer
// without it. Once a segment is marked for removal and nobody else has it attached, the agent lets go too.
#pragma once

#include <cstdint>
#include <memory>

#include "runtime/ipc/segments.h"
#include "shim/memory/segment.h"

namespace elsewhere::runtime {

// Is this what /proc/PID/maps calls a System V segment? Its inode number is its id.
bool IsSystemV(const std::string& name);

struct AttachedSegment {
  ObjectKey key;
  std::unique_ptr<memory::Segment> segment;
};
// Attached to read and write. Fails with a reason for running at home, its code the errno of shmat.
Result<AttachedSegment> AttachSegment(memory::SegmentId id, memory::HostId self, int shared_memory_id);

// True: it is marked for removal, and only this agent has it.
bool IsAbandoned(int shared_memory_id);

// In the table: id + 1 while it is attached, the same negative while that changes, so that nobody counts the
// agent's attachment who does not see it there.
enum class Listed { kNo, kChanging, kYes };
void ListAttached(abi::TableHeader& header, int shared_memory_id, Listed listed);

}  // namespace elsewhere::runtime
