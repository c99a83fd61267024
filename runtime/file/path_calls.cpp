#include "runtime/file/path_calls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "runtime/file/tree.h"
#include "shim/file/extended_attributes.h"
#include "shim/wire/stream_mark.h"

namespace elsewhere::runtime {
namespace {

using abi::FileOperation;

constexpr uint64_t kFirstDevice = 0x45530000;  // one per map, of no real device

void SetText(abi::FileAnswer& answer, const std::string& text) {
  answer.text_size = static_cast<uint32_t>(std::min(text.size(), sizeof answer.text - 1));
  std::memcpy(answer.text, text.data(), answer.text_size);
}

// Where a path leads that led out of the map. `follow`: its last name too.
std::string Outside(Map& map, const std::string& path, bool follow) {
  auto resolved = map.files->Resolve(path, follow);
  return resolved ? resolved->outside : "";
}

bool FollowsLast(const abi::FileRequest& request) {
  switch (static_cast<FileOperation>(request.operation)) {
    case FileOperation::kOpen:
      return (request.arguments[0] & O_NOFOLLOW) == 0 &&
             (request.arguments[0] & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL);
    case FileOperation::kStatus:
    case FileOperation::kResolve:
    case FileOperation::kWatch:
      return request.arguments[0] != 0;
    case FileOperation::kLongestPath:
    case FileOperation::kSocketPath:
      return true;
    case FileOperation::kAccess:
    case FileOperation::kSetMode:
      return request.arguments[1] != 0;
    case FileOperation::kSetOwner:
    case FileOperation::kSetTimes:
      return request.arguments[2] != 0;
    case FileOperation::kTruncate:
    case FileOperation::kEnter:
      return true;
    default:
      return false;
  }
}

Result<store::UniqueFd> Reopen(int fd, int flags, wire::StreamMark mark) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  constexpr int kNotAgain =
      O_TMPFILE | O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW | O_DIRECTORY | O_DIRECT | O_NOCTTY;
  store::UniqueFd opened(open(path.c_str(), (flags & ~kNotAgain) | O_CLOEXEC));
  if (!opened) return Error{errno, "the file cache cannot be opened: " + std::string(strerror(errno))};
  if ((flags & O_PATH) == 0) fcntl(opened.get(), F_SETSIG, static_cast<int>(mark));
  return opened;
}

std::optional<int64_t> Time(int64_t argument) {
  if (argument == abi::kTimeOmitted) return std::nullopt;
  return argument;
}

}  // namespace

abi::FileStatus StatusOf(const file::Attributes& attributes, size_t map, uint64_t inode) {
  abi::FileStatus status{};
  status.mode = attributes.mode;
  status.uid = attributes.uid;
  status.gid = attributes.gid;
  status.links = 1;
  status.device = kFirstDevice + map;
  status.inode = inode;
  status.special = attributes.device;
  status.size = attributes.is_directory() ? 4096 : attributes.size;
  status.blocks = (status.size + 511) / 512;
  status.atime_ns = attributes.atime_ns;
  status.mtime_ns = attributes.mtime_ns;
  status.ctime_ns = attributes.ctime_ns;
  return status;
}

std::optional<PathCall> ParsePathCall(std::span<const uint8_t> packet, size_t maps) {
  PathCall call;
  if (packet.size() < sizeof call.request) return std::nullopt;
  std::memcpy(&call.request, packet.data(), sizeof call.request);
  const abi::FileRequest& request = call.request;
  if (request.first >= abi::kFilePathSize || request.second >= abi::kFilePathSize ||
      packet.size() != sizeof request + request.first + request.second || request.map >= maps)
    return std::nullopt;
  const auto* text = reinterpret_cast<const char*>(packet.data()) + sizeof request;
  call.first.assign(text, request.first);
  call.second.assign(text + request.first, request.second);
  if (request.group_count > abi::kFileGroups) return std::nullopt;
  call.caller.uid = request.uid;
  call.caller.gid = request.gid;
  call.caller.groups.assign(request.groups, request.groups + request.group_count);
  return call;
}

PathAnswer PathCalls::Run(const PathCall& call) {
  PathAnswer answer;
  Map& map = maps_[call.request.map];
  const file::ActingAs caller(call.caller);
  open_.AbsorbAll();
  if (auto done = Dispatch(map, call, answer); !done) {
    answer.answer.result = -1;
    answer.answer.error = done.error().code;
    if (done.error().code == EREMOTE && answer.answer.text_size == 0) {
      const std::string outside = Outside(map, call.first, FollowsLast(call.request));
      // Of a rename the other path may be the one; the caller learns which.
      const bool second = outside.empty();
      SetText(answer.answer, second ? Outside(map, call.second, false) : outside);
      if (second) answer.answer.result = -2;
    }
  }
  return answer;
}

std::optional<PathAnswer> PathCalls::RunAtOnce(const PathCall& call) {
  if (static_cast<FileOperation>(call.request.operation) != FileOperation::kStatus || !open_.empty())
    return std::nullopt;
  const file::ActingAs caller(call.caller);
  file::FileSystem& files = *maps_[call.request.map].files;
  auto known = files.KnownStat(call.first, call.request.arguments[0] != 0);
  if (!known) return std::nullopt;
  PathAnswer answer;
  answer.answer.status = StatusOf(*known, call.request.map, files.InodeOf(call.first, *known));
  return answer;
}

Status PathCalls::Dispatch(Map& map, const PathCall& call, PathAnswer& answer) {
  switch (static_cast<FileOperation>(call.request.operation)) {
    case FileOperation::kOpen:
      return Open(map, call, answer);
    case FileOperation::kStatus:
    case FileOperation::kAccess:
    case FileOperation::kReadLink:
    case FileOperation::kEnter:
    case FileOperation::kResolve:
    case FileOperation::kName:
    case FileOperation::kSocketPath:
    case FileOperation::kLongestPath:
      return Examine(map, call, answer);
    case FileOperation::kWatch:
      return Watch(map, call, answer);
    case FileOperation::kSettle:
      open_.AwaitClosed();
      return map.files->SyncDirectory(call.first);
    case FileOperation::kGetXattr:
    case FileOperation::kListXattr:
    case FileOperation::kSetXattr:
    case FileOperation::kRemoveXattr:
      return Xattr(map, call, answer);
    default:
      return Change(map, call);
  }
}

Status PathCalls::Open(Map& map, const PathCall& call, PathAnswer& answer) {
  const auto flags = static_cast<int>(call.request.arguments[0]);
  const auto mode = static_cast<mode_t>(call.request.arguments[1]);
  if ((flags & O_DIRECTORY) != 0 && (flags & O_TMPFILE) != O_TMPFILE)
    return OpenDirectory(map, call.first, flags, answer);
  auto object = map.files->Open(call.first, flags & ~O_PATH, mode);
  if (!object && object.error().code == EISDIR && (flags & (O_ACCMODE | O_CREAT | O_TRUNC)) == O_RDONLY)
    return OpenDirectory(map, call.first, flags, answer);
  if (!object && object.error().code == ENXIO && (flags & O_PATH) == 0)
    return LeadToFifo(map, call.first, (flags & O_NOFOLLOW) == 0, answer);
  if (!object) return object.error();
  // Whoever can only read has no flush to come.
  if ((flags & O_ACCMODE) == O_RDONLY && (flags & (O_CREAT | O_TRUNC)) != 0 && (*object)->changed()) {
    if (auto stored = (*object)->Flush(); !stored) return stored;
  }
  auto file = open_.Opened(std::move(*object), call.request.map, flags);
  if (!file) return file.error();
  answer.pinned = *file;
  auto descriptor = Reopen((*file)->object->fd(), flags, wire::StreamMark::kMappedFile);
  if (!descriptor) return descriptor.error();
  answer.descriptor = std::move(*descriptor);
  answer.answer.result = (*file)->entry;
  answer.answer.status.mode = S_IFREG;
  if ((flags & O_CREAT) != 0) tree::NameCame(map.tree, (*file)->object->key(), S_IFREG);
  return Ok{};
}

Status PathCalls::OpenDirectory(Map& map, const std::string& path, int flags, PathAnswer& answer) {
  if ((flags & O_ACCMODE) != O_RDONLY && (flags & O_PATH) == 0) return Error{EISDIR, path};
  auto resolved = map.files->Resolve(path, (flags & O_NOFOLLOW) == 0);
  if (!resolved) return resolved.error();
  if (!resolved->outside.empty()) return Error{EREMOTE, path};
  auto attributes = map.files->Stat(resolved->path, false);
  if (!attributes) return attributes.error();
  if (!attributes->is_directory()) return Error{ENOTDIR, path};
  if (auto listed = List(map, resolved->path); !listed) return listed;
  const std::string local = resolved->path.empty() ? map.tree : map.tree + "/" + resolved->path;
  store::UniqueFd directory(open(local.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | (flags & O_PATH)));
  if (!directory) return Error{errno, local + ": " + strerror(errno)};
  if ((flags & O_PATH) == 0)
    fcntl(directory.get(), F_SETSIG, static_cast<int>(wire::StreamMark::kMappedDirectory));
  answer.descriptor = std::move(directory);
  answer.answer.status.mode = S_IFDIR;
  return Ok{};
}

// Puts what is in a directory into the tree, which has no entries of unknown type.
Status PathCalls::List(Map& map, const std::string& directory) {
  auto entries = map.files->ReadDirectory(directory);
  if (!entries) return entries.error();
  for (auto& entry : *entries) {
    if (entry.type != 0) continue;
    auto found = map.files->Stat(directory.empty() ? entry.name : directory + "/" + entry.name, false);
    entry.type = found ? found->mode & S_IFMT : static_cast<mode_t>(S_IFREG);
  }
  return tree::List(map.tree, directory, *entries);
}

// Whoever watches watches the tree, in which names change as they do in the map; of files that are stored and
// of attributes it is told from now on.
Status PathCalls::Watch(Map& map, const PathCall& call, PathAnswer& answer) {
  auto resolved = map.files->Resolve(call.first, call.request.arguments[0] != 0);
  if (!resolved) return resolved.error();
  if (!resolved->outside.empty()) return Error{EREMOTE, call.first};
  const std::string& path = resolved->path;
  auto attributes = map.files->Stat(path, false);
  if (!attributes) return attributes.error();
  if (auto allowed = map.files->Access(path, R_OK, false); !allowed) return allowed;
  if (attributes->is_directory()) {
    if (auto listed = List(map, path); !listed) return listed;
  } else {
    if (auto made = tree::MakeDirectory(map.tree, file::ParentOf(path)); !made) return made;
    tree::NameCame(map.tree, path, attributes->mode & S_IFMT);
  }
  open_.SetWatcher(
      [this](const OpenFile& file) { tree::ContentChanged(maps_[file.map].tree, file.object->key()); });
  watched_ = true;
  SetText(answer.answer, path.empty() ? map.tree : map.tree + "/" + path);
  return Ok{};
}

Status PathCalls::Xattr(Map& map, const PathCall& call, PathAnswer& answer) {
  const auto& arguments = call.request.arguments;
  const bool follow = arguments[1] != 0;
  file::FileSystem& files = *map.files;
  // An open file; the mapped directory itself has an empty path too, but no inode.
  std::shared_ptr<file::ObjectFile> object;
  if (arguments[3] != 0) {
    auto file = open_.Find(static_cast<uint64_t>(arguments[2]), static_cast<uint64_t>(arguments[3]));
    if (file == nullptr) return Error{EBADF, ""};
    object = file->object;
  }
  Result<std::string> text = std::string();
  Status done = Ok{};
  switch (static_cast<FileOperation>(call.request.operation)) {
    case FileOperation::kGetXattr:
      text = object ? files.GetXattr(object, call.second) : files.GetXattr(call.first, call.second, follow);
      break;
    case FileOperation::kListXattr:
      text = object ? Result<std::string>(file::ExtendedAttributeNames(object->attributes()))
                    : files.ListXattr(call.first, follow);
      break;
    case FileOperation::kSetXattr: {
      const size_t end = std::min(call.second.find('\0'), call.second.size());
      const std::string name = call.second.substr(0, end);
      const std::string value = end < call.second.size() ? call.second.substr(end + 1) : "";
      const auto flags = static_cast<int>(arguments[0]);
      done = object ? files.SetXattr(object, name, value, flags)
                    : files.SetXattr(call.first, name, value, flags, follow);
      break;
    }
    default:
      done = object ? files.RemoveXattr(object, call.second)
                    : files.RemoveXattr(call.first, call.second, follow);
  }
  if (!text) return text.error();
  SetText(answer.answer, *text);
  return done;
}

// Where on this host the kernel's object for a FIFO or socket lies.
std::string PathCalls::PlaceOf(Map& map, const char* kind, const std::string& path,
                               const file::Attributes& attributes) {
  char number[20];
  std::snprintf(number, sizeof number, "%016lx",
                static_cast<unsigned long>(map.files->InodeOf(path, attributes)));
  return map.tree.substr(0, map.tree.rfind('/')) + "/" + kind + "-" + number;
}

// A FIFO of this host for the name: what it connects is this host's own.
Status PathCalls::LeadToFifo(Map& map, const std::string& path, bool follow, PathAnswer& answer) {
  auto resolved = map.files->Resolve(path, follow);
  if (!resolved) return resolved.error();
  auto attributes = map.files->Stat(resolved->path, false);
  if (!attributes) return attributes.error();
  if (!S_ISFIFO(attributes->mode)) return Error{ENXIO, path};
  const std::string local = PlaceOf(map, "fifo", resolved->path, *attributes);
  if (mkfifo(local.c_str(), 0600) != 0 && errno != EEXIST)
    return Error{errno, local + ": " + strerror(errno)};
  // Who may open the object may open it, also one who cannot reach the session's directory.
  answer.descriptor.Reset(open(local.c_str(), O_PATH | O_CLOEXEC));
  if (!answer.descriptor || chmod(local.c_str(), 0666) != 0)
    return Error{errno, local + ": " + strerror(errno)};
  SetText(answer.answer, local);
  return Error{EREMOTE, path};
}

Status PathCalls::Examine(Map& map, const PathCall& call, PathAnswer& answer) {
  const auto& arguments = call.request.arguments;
  switch (static_cast<FileOperation>(call.request.operation)) {
    case FileOperation::kStatus: {
      auto resolved = map.files->Resolve(call.first, arguments[0] != 0);
      if (!resolved) return resolved.error();
      if (!resolved->outside.empty()) return Error{EREMOTE, call.first};
      auto attributes = map.files->Stat(resolved->path, false);
      if (!attributes) return attributes.error();
      answer.answer.status =
          StatusOf(*attributes, call.request.map, map.files->InodeOf(resolved->path, *attributes));
      return Ok{};
    }
    case FileOperation::kAccess:
      return map.files->Access(call.first, static_cast<int>(arguments[0]), arguments[1] != 0);
    case FileOperation::kReadLink: {
      auto target = map.files->ReadLink(call.first);
      if (!target) return target.error();
      SetText(answer.answer, *target);
      return Ok{};
    }
    case FileOperation::kEnter: {
      auto resolved = map.files->Resolve(call.first, true);
      if (!resolved) return resolved.error();
      if (!resolved->outside.empty()) return Error{EREMOTE, call.first};
      auto attributes = map.files->Stat(resolved->path, false);
      if (!attributes) return attributes.error();
      if (!attributes->is_directory()) return Error{ENOTDIR, call.first};
      if (auto allowed = map.files->Access(resolved->path, X_OK); !allowed) return allowed;
      if (auto made = tree::MakeDirectory(map.tree, resolved->path); !made) return made;
      SetText(answer.answer, resolved->path.empty() ? map.tree : map.tree + "/" + resolved->path);
      return Ok{};
    }
    case FileOperation::kSocketPath: {
      auto resolved = map.files->Resolve(call.first, true);
      if (!resolved) return resolved.error();
      if (!resolved->outside.empty()) return Error{EREMOTE, call.first};
      auto attributes = map.files->Stat(resolved->path, false);
      if (!attributes) return attributes.error();
      if (!S_ISSOCK(attributes->mode)) return Error{ECONNREFUSED, call.first};
      if (auto allowed = map.files->Access(resolved->path, W_OK); !allowed) return allowed;
      SetText(answer.answer, PlaceOf(map, "socket", resolved->path, *attributes));
      return Ok{};
    }
    case FileOperation::kLongestPath: {
      auto resolved = map.files->Resolve(call.first, true);
      if (!resolved) return resolved.error();
      if (!resolved->outside.empty()) return Error{EREMOTE, call.first};
      auto attributes = map.files->Stat(resolved->path, false);
      if (!attributes) return attributes.error();
      const size_t above = resolved->path.empty() ? 0 : resolved->path.size() + 1;
      answer.answer.result = static_cast<int64_t>(map.files->LongestPath() + 1 - above);
      return Ok{};
    }
    case FileOperation::kResolve: {
      auto resolved = map.files->Resolve(call.first, true);
      if (!resolved) return resolved.error();
      if (!resolved->outside.empty()) return Error{EREMOTE, call.first};
      auto attributes = map.files->Stat(resolved->path, false);
      if (!attributes) return attributes.error();
      SetText(answer.answer, map.rule.directory + (resolved->path.empty() ? "" : "/" + resolved->path));
      return Ok{};
    }
    default: {  // kName
      auto file = open_.Find(static_cast<uint64_t>(arguments[0]), static_cast<uint64_t>(arguments[1]));
      if (file == nullptr) return Error{EBADF, ""};
      SetText(answer.answer, maps_[file->map].rule.directory + "/" + file->object->key() +
                                 (file->object->unlinked() ? " (deleted)" : ""));
      return Ok{};
    }
  }
}

Status PathCalls::Change(Map& map, const PathCall& call) {
  auto changed = CarryOut(map, call);
  if (!changed || !watched_) return changed;
  std::string bare = call.first;
  while (bare.ends_with('/')) bare.pop_back();
  switch (static_cast<FileOperation>(call.request.operation)) {
    case FileOperation::kSetMode:
    case FileOperation::kSetOwner:
    case FileOperation::kSetTimes:
      tree::AttributesChanged(map.tree, bare);
      break;
    case FileOperation::kTruncate:
      tree::ContentChanged(map.tree, bare);
      break;
    default:
      break;
  }
  return changed;
}

Status PathCalls::CarryOut(Map& map, const PathCall& call) {
  const auto& arguments = call.request.arguments;
  const std::string& path = call.first;
  file::FileSystem& files = *map.files;
  // Followed in the tree only where the path is what it seems: what went through a link shows at the next
  // listing.
  std::string bare = path;
  while (bare.ends_with('/')) bare.pop_back();
  switch (static_cast<FileOperation>(call.request.operation)) {
    case FileOperation::kMakeDirectory: {
      auto made = files.MakeDirectory(path, static_cast<mode_t>(arguments[0]));
      if (made) tree::NameCame(map.tree, bare, S_IFDIR);
      return made;
    }
    case FileOperation::kRemoveDirectory: {
      auto removed = files.RemoveDirectory(path);
      if (removed) tree::NameWent(map.tree, bare);
      return removed;
    }
    case FileOperation::kUnlink: {
      auto removed = files.Unlink(path);
      if (removed) tree::NameWent(map.tree, bare);
      return removed;
    }
    case FileOperation::kRename: {
      auto source = files.Stat(path, false);
      auto moved = files.Rename(path, call.second, static_cast<unsigned>(arguments[0]));
      if (!moved || !source) return moved;
      std::string to = call.second;
      while (to.ends_with('/')) to.pop_back();
      tree::NameMoved(map.tree, bare, to, source->mode & S_IFMT);
      return moved;
    }
    case FileOperation::kMakeLink: {
      auto made = files.MakeLink(call.second, path);
      if (made) tree::NameCame(map.tree, bare, S_IFLNK);
      return made;
    }
    case FileOperation::kMakeNode: {
      auto made =
          files.MakeSpecial(path, static_cast<mode_t>(arguments[0]), static_cast<uint64_t>(arguments[1]));
      if (made) tree::NameCame(map.tree, bare, static_cast<mode_t>(arguments[0]) & S_IFMT);
      return made;
    }
    case FileOperation::kLinkFile: {
      auto file = open_.Find(static_cast<uint64_t>(arguments[2]), static_cast<uint64_t>(arguments[3]));
      if (file == nullptr) return Error{EBADF, path};
      auto linked = files.Link(file->object, path);
      if (linked) tree::NameCame(map.tree, bare, S_IFREG);
      return linked;
    }
    case FileOperation::kHardLink:
      return files.HardLink(path, call.second);
    case FileOperation::kSetMode:
      return files.SetMode(path, static_cast<mode_t>(arguments[0]), arguments[1] != 0);
    case FileOperation::kSetOwner:
      return files.SetOwner(path, static_cast<uid_t>(arguments[0]), static_cast<gid_t>(arguments[1]),
                            arguments[2] != 0);
    case FileOperation::kSetTimes:
      return files.SetTimes(path, {Time(arguments[0]), Time(arguments[1]), arguments[3] != 0},
                            arguments[2] != 0);
    case FileOperation::kTruncate:
      return files.Truncate(path, static_cast<uint64_t>(arguments[0]));
    default:
      return Error{ENOSYS, path};
  }
}

}  // namespace elsewhere::runtime
