// Names in a session's directory that both its agents and the processes that they serve must know.
#pragma once

namespace elsewhere::wire {

// The directory in which the sockets of root's sessions lie, below the session's.
inline constexpr char kSocketsPrefix[] = "h-";

}  // namespace elsewhere::wire
