// Epoll instances across a fork to another host. Nothing of an epoll instance can be moved; what it watches
// can be entered again, under the same numbers, in a new one. The deputy writes it down where the image takes
// it along.
//
// Natively parent and child share one instance; here each has its own from the fork on. A child that never
// waits on its one takes nothing from what it watches (an event loop and its pool of processes).
// Thread-safety: a deputy and a process that is being restored have one thread.
#pragma once

namespace elsewhere::preload {

// In a deputy, before the capture. Not nullptr: the reason why the child must stay at home.
const char* NoteEpolls();

// In a restored process, when its descriptors are known.
void EnterEpollsAgain();

}  // namespace elsewhere::preload
