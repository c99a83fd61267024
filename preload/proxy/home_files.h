// Files of home that a process elsewhere reads through its proxy: those of /proc. Arguments and results are
// those of abi::DeputyCall, failures -errno. Private to preload/proxy.
#pragma once

#include <cstdint>

namespace elsewhere::proxy {

long ReadFile(const int64_t* arguments);
// Of /proc without the processes of workers on this machine.
long ListDirectory(const int64_t* arguments);

}  // namespace elsewhere::proxy
