// Mapped files and directories that a child on another host inherits open (runtime/mapped_files.h).
//
// Where they are captured: what is only written stays here, in the local file, and is sent when its writer on
// the other host has ended or says fsync; what is read, or read and written, travels as map, version and key,
// and its offset as that of any plain file (runtime/stream). A description that is written on both hosts is
// one as far as their flushes (fsync, close, fork, exit) are ordered: each host is told of the other's and
// takes its version over before the file is used again.
//
// A child stays at home with
//   - a file without a name, or not yet stored, that it may read: the store has nothing of it;
//   - a file to be overwritten (not appended to) that is not all here: what is fetched later would be laid
//   over it;
//   - a directory that was read in part: positions mean something to its own host only.
// Where they arrive: opened by that key, if the store still has that version; otherwise the job is rejected,
// and the child runs where its parent does. Thread-safety: the loop's thread, but for what `background` runs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/agent.h"
#include "runtime/file/file_locks.h"
#include "runtime/file/path_calls.h"
#include "runtime/mapped_files.h"
#include "shim/wire/image_view.h"

namespace elsewhere::runtime {

class InheritedFiles final : public MappedFiles {
 public:
  // Runs the first on a thread, then the second on the loop's.
  using Background = std::function<void(std::function<Status()>, std::function<void(const Status&)>)>;
  // `failed`: what could not be stored, when nobody else is there to be told; on any thread.
  using Failed = std::function<void(const std::string& key, const Error&)>;
  InheritedFiles(Maps& maps, OpenFiles& open, PathCalls& paths, FileLocks& locks, std::string tree,
                 Background background, Failed failed)
      : maps_(maps),
        open_(open),
        paths_(paths),
        locks_(locks),
        tree_(std::move(tree)),
        background_(std::move(background)),
        failed_(std::move(failed)) {}

  // May this image's descriptors and mappings leave? An error says why not.
  Status MayLeave(const image::View& view);
  // Opens those of the job that are mapped.
  void Open(const wire::Job& job, std::vector<HeldDescriptor>& descriptors, Component::Done done);

  std::optional<std::string> NameOf(uint64_t device, uint64_t inode, const std::string& link) override;
  void NoteRewritten(uint64_t device, uint64_t inode) override;
  bool TakeCall(uint64_t device, uint64_t inode, int descriptor, const wire::StreamControl& control,
                Answer answer) override;
  void StoreOutput(std::function<void()> done) override;

 private:
  Result<int64_t> Make(OpenFile& file, const wire::StreamControl& control, std::vector<uint8_t>& answer);
  Result<int64_t> WriteAt(OpenFile& file, const wire::StreamControl& control);
  Result<int64_t> Attribute(OpenFile& file, const wire::StreamControl& control, std::vector<uint8_t>& answer);
  bool HasVersion(OpenFile& file, const wire::JobDescriptor& entry, const std::string& version);
  Result<HeldDescriptor> OpenOne(const wire::JobDescriptor& entry);

  Maps& maps_;
  OpenFiles& open_;
  PathCalls& paths_;
  FileLocks& locks_;
  const std::string tree_;  // of this host, with a final '/'
  const Background background_;
  const Failed failed_;
  std::vector<std::weak_ptr<OpenFile>> outputs_;  // are written by other hosts
};

}  // namespace elsewhere::runtime
