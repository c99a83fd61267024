#include "runtime/file/inherited_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "runtime/stream/classify.h"
#include "shim/file/extended_attributes.h"
#include "shim/wire/stream_call.h"

namespace elsewhere::runtime {
namespace {

using wire::StreamCall;

constexpr char kDirectory[] = "/";  // in place of a version

Error Stays(const std::string& what) {
  return Error{ENOTSUP, what + " cannot move to another host"};
}

// "map version key"; versions have no spaces.
struct Name {
  size_t map = 0;
  std::string version;
  std::string key;

  std::string Text() const { return std::to_string(map) + " " + version + " " + key; }
  static std::optional<Name> Parse(const std::string& text) {
    const size_t first = text.find(' ');
    const size_t second = first == std::string::npos ? first : text.find(' ', first + 1);
    if (second == std::string::npos || first == 0 || first > 4) return std::nullopt;
    if (text.find_first_not_of("0123456789") != first) return std::nullopt;
    return Name{std::stoul(text.substr(0, first)), text.substr(first + 1, second - first - 1),
                text.substr(second + 1)};
  }
};

std::string TextOf(std::span<const uint8_t> bytes) {
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  return std::string(text, strnlen(text, bytes.size()));
}

template <class T>
void SetAnswer(std::vector<uint8_t>& answer, const T& value) {
  answer.resize(sizeof value);
  std::memcpy(answer.data(), &value, sizeof value);
}

timespec TimeOf(int64_t ns) {
  const int64_t seconds = ns / 1'000'000'000 - (ns % 1'000'000'000 < 0 ? 1 : 0);
  return {seconds, ns - seconds * 1'000'000'000};
}

statx_timestamp ToStatx(const timespec& time) {
  statx_timestamp converted{};
  converted.tv_sec = time.tv_sec;
  converted.tv_nsec = static_cast<uint32_t>(time.tv_nsec);
  return converted;
}

struct stat ToStat(const abi::FileStatus& from) {
  struct stat to {};
  to.st_dev = from.device;
  to.st_ino = from.inode;
  to.st_mode = from.mode;
  to.st_nlink = from.links;
  to.st_rdev = from.special;
  to.st_uid = from.uid;
  to.st_gid = from.gid;
  to.st_size = static_cast<off_t>(from.size);
  to.st_blksize = 128 << 10;
  to.st_blocks = static_cast<blkcnt_t>(from.blocks);
  to.st_atim = TimeOf(from.atime_ns);
  to.st_mtim = TimeOf(from.mtime_ns);
  to.st_ctim = TimeOf(from.ctime_ns);
  return to;
}

struct statx ToStatx(const struct stat& from) {
  struct statx to {};
  to.stx_mask = STATX_BASIC_STATS;
  to.stx_blksize = static_cast<uint32_t>(from.st_blksize);
  to.stx_nlink = static_cast<uint32_t>(from.st_nlink);
  to.stx_uid = from.st_uid;
  to.stx_gid = from.st_gid;
  to.stx_mode = static_cast<uint16_t>(from.st_mode);
  to.stx_ino = from.st_ino;
  to.stx_size = static_cast<uint64_t>(from.st_size);
  to.stx_blocks = static_cast<uint64_t>(from.st_blocks);
  to.stx_atime = ToStatx(from.st_atim);
  to.stx_mtime = ToStatx(from.st_mtim);
  to.stx_ctime = ToStatx(from.st_ctim);
  to.stx_dev_major = major(from.st_dev);
  to.stx_dev_minor = minor(from.st_dev);
  return to;
}

file::FileSystem::Times TimesOf(const wire::StreamControl& control) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  timespec times[2] = {now, now};
  if (control.payload.size() == sizeof times) std::memcpy(times, control.payload.data(), sizeof times);
  const auto value = [&now](const timespec& time) -> std::optional<int64_t> {
    if (time.tv_nsec == UTIME_OMIT) return std::nullopt;
    const timespec& meant = time.tv_nsec == UTIME_NOW ? now : time;
    return meant.tv_sec * 1'000'000'000 + meant.tv_nsec;
  };
  return {.atime_ns = value(times[0]), .mtime_ns = value(times[1])};
}

bool IsOfTheFile(const wire::StreamControl& control) {
  if (control.operation == wire::StreamOperation::kStat) return true;
  if (control.operation != wire::StreamOperation::kCall) return false;
  switch (static_cast<StreamCall>(control.call)) {
    case StreamCall::kTruncate:
    case StreamCall::kSync:
    case StreamCall::kSyncRange:
    case StreamCall::kSetMode:
    case StreamCall::kSetOwner:
    case StreamCall::kSetTimes:
    case StreamCall::kWriteAt:
    case StreamCall::kStatus:
    case StreamCall::kName:
    case StreamCall::kGetAttribute:
    case StreamCall::kSetAttribute:
    case StreamCall::kListAttributes:
    case StreamCall::kRemoveAttribute:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::optional<std::string> InheritedFiles::NameOf(uint64_t device, uint64_t inode, const std::string& link) {
  if (const auto file = open_.Find(device, inode); file != nullptr)
    return Name{file->map, file->object->attributes().etag, file->object->key()}.Text();
  if (!link.starts_with(tree_)) return std::nullopt;
  const size_t end = std::min(link.find('/', tree_.size()), link.size());
  auto name = Name::Parse(link.substr(tree_.size(), end - tree_.size()) + " " + kDirectory + " " +
                          (end < link.size() ? link.substr(end + 1) : ""));
  return name ? std::optional(name->Text()) : std::nullopt;
}

Status InheritedFiles::MayLeave(const image::View& view) {
  for (const image::Object& object : view.objects()) {
    if (open_.Find(object.device, object.inode) != nullptr) return Stays("the memory of a mapped file");
  }
  for (const image::Descriptor& entry : view.descriptors()) {
    const auto file = open_.Find(entry.device, entry.inode);
    const bool is_directory = file == nullptr && std::string(view.text(entry.path)).starts_with(tree_);
    if (is_directory && ((entry.flags & O_PATH) != 0 || entry.offset > 0))
      return Stays("a mapped directory that is read");
    if (file == nullptr) continue;
    if ((entry.flags & O_PATH) != 0) return Stays("a mapped file opened as a path");
    switch (entry.flags & O_ACCMODE) {
      case O_WRONLY:
        if ((entry.flags & O_APPEND) == 0 && !file->object->IsWhole())
          return Stays("a mapped file that is overwritten and not yet fetched");
        outputs_.push_back(file);
        break;
      default:
        if (file->object->unlinked() || file->object->attributes().etag.empty())
          return Stays("an open mapped file without a name");
        // The parent goes on meanwhile: what it writes after the fork the child sees when that is stored.
        if ((entry.flags & O_ACCMODE) == O_RDWR ? file->unstored.load() : file->object->changed())
          return Stays("an open mapped file that is not stored yet (" + file->object->key() + ")");
        if ((entry.flags & O_ACCMODE) == O_RDWR) open_.SetShared(*file);
    }
  }
  return Ok{};
}

void InheritedFiles::Open(const wire::Job& job, std::vector<HeldDescriptor>& descriptors,
                          Component::Done done) {
  std::vector<wire::JobDescriptor> mapped;
  for (const wire::JobDescriptor& entry : job.descriptors) {
    if (entry.kind == static_cast<uint32_t>(stream::Kind::kMappedFile)) mapped.push_back(entry);
  }
  if (mapped.empty()) return done(Ok{});
  auto opened = std::make_shared<std::vector<HeldDescriptor>>();
  background_(
      [this, mapped, opened]() -> Status {
        for (const wire::JobDescriptor& entry : mapped) {
          auto one = OpenOne(entry);
          if (!one) return one.error();
          opened->push_back(*one);
        }
        return Ok{};
      },
      [opened, &descriptors, done](const Status& status) {
        // Those that came before an error are the job's to close.
        descriptors.insert(descriptors.end(), opened->begin(), opened->end());
        done(status);
      });
}

Result<HeldDescriptor> InheritedFiles::OpenOne(const wire::JobDescriptor& entry) {
  const auto name = Name::Parse(entry.path);
  if (!name || name->map >= maps_.count()) return Error{EPROTO, "malformed name of a mapped file"};
  const bool is_directory = name->version == kDirectory;
  PathCall call;
  call.request.operation = static_cast<uint32_t>(abi::FileOperation::kOpen);
  call.request.map = static_cast<uint32_t>(name->map);
  call.request.arguments[0] =
      (entry.status_flags & (O_ACCMODE | O_APPEND | O_NONBLOCK)) | (is_directory ? O_DIRECTORY : 0);
  call.first = name->key;
  const std::string path = maps_[name->map].rule.directory + "/" + name->key;
  for (bool again = false;; again = true) {
    PathAnswer answer = paths_.Run(call);  // as root: it is open already
    if (answer.answer.result < 0)
      return Error{answer.answer.error, path + " is no longer there for a child to inherit"};
    HeldDescriptor held;
    held.number = entry.number;
    held.flags = entry.flags;
    const bool same = is_directory || HasVersion(*answer.pinned, entry, name->version);
    if (same) held.descriptor = answer.descriptor.Release();
    answer.descriptor.Reset();
    if (answer.pinned != nullptr) open_.Unpin(answer.pinned);
    answer.pinned.reset();
    if (same) return held;
    if (again) return Error{ESTALE, path + " was changed while a child inherited it"};
    // Perhaps an older version is still known here that nobody uses any more.
    open_.Sweep(failed_);
  }
}

bool InheritedFiles::HasVersion(OpenFile& file, const wire::JobDescriptor& entry,
                                const std::string& version) {
  if ((entry.status_flags & O_ACCMODE) != O_RDWR) return file.object->attributes().etag == version;
  open_.SetShared(file);
  // Whoever shares a description that is written sees what others write meanwhile; and children before it
  // have left the same one here, with the version of their time.
  return open_.Refresh(file).ok();
}

void InheritedFiles::NoteRewritten(uint64_t device, uint64_t inode) {
  if (const auto file = open_.Find(device, inode); file != nullptr) open_.NoteRewritten(*file);
}

bool InheritedFiles::TakeCall(uint64_t device, uint64_t inode, int descriptor,
                              const wire::StreamControl& control, Answer answer) {
  const auto file = open_.Find(device, inode);
  if (file != nullptr && control.operation == wire::StreamOperation::kCall &&
      static_cast<StreamCall>(control.call) == StreamCall::kLock) {
    auto own = std::make_shared<store::UniqueFd>(fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
    locks_.LockOutput(file, std::move(own), static_cast<int>(control.first),
                      [answer, request = control.request](int error) {
                        answer({request, error == 0 ? 0 : -1, error, {}});
                      });
    return true;
  }
  if (file == nullptr || !IsOfTheFile(control)) return false;
  auto made = std::make_shared<wire::StreamControlled>();
  made->request = control.request;
  background_(
      [this, file, control, made]() -> Status {
        auto result = Make(*file, control, made->payload);
        made->result = result ? *result : -1;
        made->error = result ? 0 : result.error().code;
        return Ok{};
      },
      [made, answer](const Status& status) {
        if (!status) made->result = -1, made->error = status.error().code;
        answer(*made);
      });
  return true;
}

Result<int64_t> InheritedFiles::Make(OpenFile& file, const wire::StreamControl& control,
                                     std::vector<uint8_t>& answer) {
  file::FileSystem& files = *maps_[file.map].files;
  open_.Absorb(file);
  const auto status = [&] {
    const file::Attributes attributes = file.object->attributes();
    auto found = StatusOf(attributes, file.map, files.InodeOf(file.object->key(), attributes));
    if (file.object->unlinked()) found.links = 0;
    return ToStat(found);
  };
  Status done = Ok{};
  if (control.operation == wire::StreamOperation::kStat) {
    SetAnswer(answer, status());
    return 0;
  }
  switch (static_cast<StreamCall>(control.call)) {
    case StreamCall::kTruncate:
      done = control.first < 0 ? Status(Error{EINVAL, ""})
                               : open_.Truncate(file, static_cast<uint64_t>(control.first));
      break;
    case StreamCall::kSync:
    case StreamCall::kSyncRange:
      done = open_.Flush(file);
      break;
    case StreamCall::kSetMode:
      done = files.SetMode(file.object, static_cast<mode_t>(control.first));
      break;
    case StreamCall::kSetOwner:
      done =
          files.SetOwner(file.object, static_cast<uid_t>(control.first), static_cast<gid_t>(control.second));
      break;
    case StreamCall::kSetTimes:
      done = files.SetTimes(file.object, TimesOf(control));
      break;
    case StreamCall::kWriteAt:
      return WriteAt(file, control);
    case StreamCall::kStatus:
      SetAnswer(answer, ToStatx(status()));
      break;
    case StreamCall::kName: {
      const std::string name = maps_[file.map].rule.directory + "/" + file.object->key() +
                               (file.object->unlinked() ? " (deleted)" : "");
      answer.assign(name.begin(), name.end());
      return static_cast<int64_t>(name.size());
    }
    default:
      return Attribute(file, control, answer);
  }
  if (!done) return done.error();
  return 0;
}

Result<int64_t> InheritedFiles::WriteAt(OpenFile& file, const wire::StreamControl& control) {
  const auto size = control.payload.size();
  // Linux appends whatever the offset is, where the description appends; those only are not whole.
  const bool whole = file.object->IsWhole();
  const auto at = whole ? static_cast<uint64_t>(control.first) : file.object->attributes().size;
  if (control.first < 0) return Error{EINVAL, ""};
  const ssize_t written = pwrite(file.object->fd(), control.payload.data(), size, static_cast<off_t>(at));
  if (written < 0) return Error{errno, strerror(errno)};
  open_.Written(file, at, static_cast<uint64_t>(written));
  return written;
}

Result<int64_t> InheritedFiles::Attribute(OpenFile& file, const wire::StreamControl& control,
                                          std::vector<uint8_t>& answer) {
  file::FileSystem& files = *maps_[file.map].files;
  Result<std::string> text = std::string();
  switch (static_cast<StreamCall>(control.call)) {
    case StreamCall::kGetAttribute:
      text = files.GetXattr(file.object, TextOf(control.payload));
      break;
    case StreamCall::kListAttributes:
      text = file::ExtendedAttributeNames(file.object->attributes());
      break;
    case StreamCall::kRemoveAttribute: {
      auto removed = files.RemoveXattr(file.object, TextOf(control.payload));
      if (!removed) return removed.error();
      return 0;
    }
    default: {
      const auto name = std::min(static_cast<size_t>(control.second), control.payload.size());
      const auto* value = reinterpret_cast<const char*>(control.payload.data()) + name;
      auto set =
          files.SetXattr(file.object, TextOf(control.payload),
                         std::string(value, control.payload.size() - name), static_cast<int>(control.first));
      if (!set) return set.error();
      return 0;
    }
  }
  if (!text) return text.error();
  answer.assign(text->begin(), text->end());
  return static_cast<int64_t>(text->size());
}

void InheritedFiles::StoreOutput(std::function<void()> done) {
  auto files = std::make_shared<std::vector<std::shared_ptr<OpenFile>>>();
  std::erase_if(outputs_, [&](const std::weak_ptr<OpenFile>& each) {
    auto file = each.lock();
    if (file == nullptr) return true;
    files->push_back(std::move(file));
    return false;
  });
  if (files->empty()) return done();
  background_(
      [this, files]() -> Status {
        for (const auto& file : *files) {
          if (file->object->unlinked()) continue;
          if (auto stored = open_.Flush(*file); !stored) failed_(file->object->key(), stored.error());
        }
        return Ok{};
      },
      [done](const Status&) { done(); });
}

}  // namespace elsewhere::runtime
