// `elsewhere-runtime launch adopt PID SOCKET`: a session for a process that was started with LD_PRELOAD
// alone. The preload executes it (preload/session_start.cpp) and gets one packet through SOCKET: the
// session's id, a space, the path of the agent's socket, and the lifeline. Options come from the environment.
// Afterwards this process is what the launcher is for others, for as long as the session lives, except that
// it is no parent of the session's root.
#pragma once

namespace elsewhere::runtime {

// `arguments` behind "adopt". Returns in a process that the root does not know, with the session's end.
int Adopt(int argc, char** argv);

}  // namespace elsewhere::runtime
