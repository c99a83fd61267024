// The deputy while its process runs elsewhere.
#pragma once

namespace elsewhere::preload {

// Stands for the process at home until the agent says how it ended, and ends like it. `socket`: the
// connection to the agent. All signals must be blocked. Raw system calls only.
[[noreturn]] void RunProxy(int socket);

}  // namespace elsewhere::preload
