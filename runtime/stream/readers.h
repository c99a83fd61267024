// Who else on this machine can read a pipe.
#pragma once

namespace elsewhere::runtime::stream {

// Looks through /proc for a process other than this one that has a readable descriptor of the anonymous pipe.
// True also where that cannot be told: a named FIFO, or no /proc. Processes of other users, whose descriptors
// cannot be seen, are taken not to have it: they could only have inherited it from one of ours that still
// runs.
bool HasOtherReaders(int pipe);

}  // namespace elsewhere::runtime::stream
