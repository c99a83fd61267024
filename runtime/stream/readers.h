// Who else on this machine can read a pipe.
#pragma once

#include <cstddef>
#include <string>

namespace elsewhere::runtime::stream {

// Looks through /proc for a readable descriptor of the anonymous pipe that another process has, or this one
// beyond its `own`, which is such a process's that is on its way (runtime/kept_descriptors.h). True also
// where that cannot be told: a named FIFO, or no /proc. Processes of other users, whose descriptors cannot be
// seen, are taken not to have it: they could only have inherited it from one of ours that still runs.
bool HasOtherReaders(int pipe, size_t own);

// Is what is written to this pipe or socket read in the session, be it by this process for another host?
// False for standard output that goes to a pager. A socket's reader is taken to be who made or accepted it;
// of other sockets than Unix ones that is not known, and the answer is yes.
bool IsReadInSession(int descriptor, const std::string& session);

}  // namespace elsewhere::runtime::stream
