// The C library's own streams on descriptors whose object is elsewhere.
#pragma once

namespace elsewhere::preload {

// From now on stdio's own reads, seeks and stats of such descriptors come by here first. Called when a
// process gets the first one; does nothing the next time. Async-signal-safe.
void FollowStdio();

// Can that be done in this process? Not with a C library whose stdio is built otherwise.
bool CanFollowStdio();
// FollowStdio was called and found what it wanted, writing included.
bool FollowsStdio();

}  // namespace elsewhere::preload
