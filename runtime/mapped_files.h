// Descriptors of mapped files as the stream component needs them, which takes descriptors to other hosts: the
// files component implements this where there are maps (Agent::mapped_files).
//
// What of them is only written stays at its origin like any output file, so that its offset and its content
// are one for all who hold it; what is read is opened again on the other host by its name in the map, with
// the version that was open here. Thread-safety: the loop's thread; answers come there too.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "shim/wire/stream_message.h"

namespace elsewhere::runtime {

class MappedFiles {
 public:
  virtual ~MappedFiles() = default;

  // Names the mapped file or directory for another host, as JobDescriptor::path; `link`: what /proc/self/fd
  // says. Nothing: it is none.
  virtual std::optional<std::string> NameOf(uint64_t device, uint64_t inode, const std::string& link) = 0;

  // The origin of an output file wrote before its end, which nobody notices by the file's size.
  virtual void NoteRewritten(uint64_t device, uint64_t inode) = 0;
  // A call on an output file that means the mapped one and not its local copy. False: it is the kernel's.
  using Answer = std::function<void(wire::StreamControlled)>;
  // `descriptor`: the origin's.
  virtual bool TakeCall(uint64_t device, uint64_t inode, int descriptor, const wire::StreamControl& control,
                        Answer answer) = 0;
  // What other hosts wrote here is in the store before `done`.
  virtual void StoreOutput(std::function<void()> done) = 0;
};

}  // namespace elsewhere::runtime
