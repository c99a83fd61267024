// A session without a launcher: a program that was started with LD_PRELOAD alone gets one when it first needs
// one, at its first fork or named semaphore. Until then nothing happens, so that programs which need none
// start as fast as ever.
#pragma once

namespace elsewhere::preload {

// Whether this process is in a session; starts one where that is possible and has not been tried. Keeps
// errno. Thread-safe and async-signal-safe.
bool JoinSession();

}  // namespace elsewhere::preload
