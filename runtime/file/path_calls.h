// Calls about mapped paths, carried out: a FileRequest in, a FileAnswer and perhaps a descriptor out.
// Thread-safety: Run from any thread; it blocks for the store.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "runtime/file/maps.h"
#include "runtime/file/open_files.h"
#include "shim/store/unique_fd.h"
#include "shim/wire/abi.h"

namespace elsewhere::runtime {

struct PathCall {
  abi::FileRequest request{};
  std::string first;
  std::string second;
  file::Caller caller{};
};
// Nothing: it is malformed.
std::optional<PathCall> ParsePathCall(std::span<const uint8_t> packet, size_t maps);

struct PathAnswer {
  abi::FileAnswer answer{};
  store::UniqueFd descriptor{};
  std::shared_ptr<OpenFile> pinned{};  // to be unpinned when the descriptor has left
  // As it is sent.
  std::span<const uint8_t> bytes() const {
    return {reinterpret_cast<const uint8_t*>(&answer), offsetof(abi::FileAnswer, text) + answer.text_size};
  }
  // By `send(bytes, descriptors)`.
  template <class Send>
  auto SendBy(const Send& send) const {
    const int number = descriptor.get();
    return send(bytes(), number >= 0 ? std::span(&number, 1) : std::span<const int>());
  }
};

class PathCalls {
 public:
  PathCalls(Maps& maps, OpenFiles& open) : maps_(maps), open_(open) {}
  PathAnswer Run(const PathCall& call);
  // Where nothing needs to be asked of the store or waited for.
  std::optional<PathAnswer> RunAtOnce(const PathCall& call);

 private:
  Status Open(Map& map, const PathCall& call, PathAnswer& answer);
  Status OpenDirectory(Map& map, const std::string& path, int flags, PathAnswer& answer);
  Status Change(Map& map, const PathCall& call);
  Status CarryOut(Map& map, const PathCall& call);
  Status Xattr(Map& map, const PathCall& call, PathAnswer& answer);
  static std::string PlaceOf(Map& map, const char* kind, const std::string& path,
                             const file::Attributes& attributes);
  Status LeadToFifo(Map& map, const std::string& path, bool follow, PathAnswer& answer);
  Status Watch(Map& map, const PathCall& call, PathAnswer& answer);
  Status List(Map& map, const std::string& directory);
  Status Examine(Map& map, const PathCall& call, PathAnswer& answer);
  Status Dispatch(Map& map, const PathCall& call, PathAnswer& answer);

  Maps& maps_;
  OpenFiles& open_;
  std::atomic<bool> watched_ = false;
};

abi::FileStatus StatusOf(const file::Attributes& attributes, size_t map, uint64_t inode);

}  // namespace elsewhere::runtime
