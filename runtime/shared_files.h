// Files that are read and written at home by processes elsewhere, as shared memory for who maps them there:
// the memory component implements this at home, the stream component has the files (Agent::shared_files).
// Thread-safety: the loop's thread.
#pragma once

#include "shim/wire/result.h"
#include "shim/wire/stream_call.h"

namespace elsewhere::runtime {

class SharedFiles {
 public:
  virtual ~SharedFiles() = default;

  // Shares the file behind `descriptor` with other hosts for as long as the process `session_pid` lives. An
  // error: that cannot be; its code is what mmap there fails with.
  virtual Result<wire::SharedFile> ShareFile(int descriptor, int32_t session_pid) = 0;
};

}  // namespace elsewhere::runtime
