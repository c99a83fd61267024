// Whose turn a terminal is.
#pragma once

#include <sys/types.h>

namespace elsewhere::runtime::stream {

// True if `terminal` controls the process and another group than the process's is in its foreground: the
// kernel would not let the process read.
bool InBackground(pid_t process, int terminal);

// Opens the terminal once more by its name, where /proc cannot: what was opened as /dev/tty is another
// terminal for each session, and none for ours. -1: errno.
int OpenTerminalByName(int terminal, int flags);

}  // namespace elsewhere::runtime::stream
