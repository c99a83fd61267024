// syscall(2) of what may be about mapped files.
#pragma once

namespace elsewhere::preload {

// False: it is about no file.
bool FileSyscall(long number, long a, long b, long c, long d, long e, long f, long* result);

}  // namespace elsewhere::preload
