// `elsewhere gc`: removes what killed writers and sessions have left, on this machine and in stores.
#pragma once

namespace elsewhere::runtime {

// `arguments` behind "gc". 0; 1 when something could not be looked at or removed; 2 wrong usage.
int CollectGarbage(int argc, char** argv);

}  // namespace elsewhere::runtime
