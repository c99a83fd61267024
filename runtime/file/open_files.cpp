#include "runtime/file/open_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "shim/file/upload_plan.h"

namespace elsewhere::runtime {
namespace {

uint64_t LocalSize(const OpenFile& file) {
  struct stat status;
  return fstat(file.object->fd(), &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

}  // namespace

uint32_t OpenFiles::NewEntry(const OpenFile& file) {
  for (uint32_t i = 0; i < abi::kFileCount; ++i) {
    abi::FileEntry& entry = table_.files[i];
    if (entry.used.load(std::memory_order_relaxed) != 0) continue;
    entry.device.store(file.device);
    entry.inode.store(file.inode);
    entry.whole.store(0);
    entry.known_size.store(0);
    entry.notify_at.store(UINT64_MAX);
    entry.record_locks.store(0);
    entry.used.store(1);
    return i + 1;
  }
  return 0;
}

Result<std::shared_ptr<OpenFile>> OpenFiles::Opened(std::shared_ptr<file::ObjectFile> object, size_t map,
                                                    int flags) {
  struct stat status;
  if (fstat(object->fd(), &status) != 0) return Error{errno, strerror(errno)};
  std::shared_ptr<OpenFile> file;
  {
    std::lock_guard lock(mutex_);
    auto& known = files_[{status.st_dev, status.st_ino}];
    if (known == nullptr || known->object != object) {
      if (known != nullptr) GiveEntryBack(*known);
      known = std::make_shared<OpenFile>();
      known->object = std::move(object);
      known->map = map;
      known->device = status.st_dev;
      known->inode = status.st_ino;
      known->entry = NewEntry(*known);
    }
    file = known;
    ++file->pins;
  }
  {
    std::lock_guard lock(file->mutex);
    if ((flags & O_ACCMODE) != O_RDONLY) {
      file->writable = true;
      file->appends = file->appends && (flags & O_APPEND) != 0;
    }
  }
  Publish(*file);
  return file;
}

void OpenFiles::Unpin(const std::shared_ptr<OpenFile>& file) {
  std::lock_guard lock(mutex_);
  --file->pins;
}

std::shared_ptr<OpenFile> OpenFiles::Find(uint64_t device, uint64_t inode) {
  std::lock_guard lock(mutex_);
  const auto found = files_.find({device, inode});
  return found == files_.end() ? nullptr : found->second;
}

std::vector<std::shared_ptr<OpenFile>> OpenFiles::All() {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<OpenFile>> all;
  for (const auto& [name, file] : files_) all.push_back(file);
  return all;
}

// Under the file's mutex the last to publish has seen the last change, and none publishes for a file whose
// entry is another's by now.
void OpenFiles::Publish(OpenFile& file) {
  std::lock_guard lock(file.mutex);
  PublishLocked(file);
}

void OpenFiles::GiveEntryBack(OpenFile& file) {
  std::lock_guard lock(file.mutex);
  if (file.entry != 0) table_.files[file.entry - 1].used.store(0);
  file.entry = 0;
}

void OpenFiles::PublishLocked(OpenFile& file) {
  if (file.entry == 0) return;
  abi::FileEntry& entry = table_.files[file.entry - 1];
  const uint64_t size = file.object->attributes().size;
  entry.known_size.store(file.told != file.looked ? UINT64_MAX : size);
  entry.notify_at.store((size / file::kStreamPart + 1) * file::kStreamPart);
  entry.whole.store(file.told == file.looked && file.object->IsWhole() ? 1 : 0);
}

Status OpenFiles::Fetch(OpenFile& file, uint64_t offset, uint64_t length) {
  Absorb(file);
  if (auto refreshed = Refresh(file); !refreshed) return refreshed;
  auto fetched = file.object->Prepare(offset, length);
  Publish(file);
  return fetched;
}

void OpenFiles::Written(OpenFile& file, uint64_t offset, uint64_t length) {
  Absorb(file);
  const uint64_t size = file.object->attributes().size;
  if (offset < size) (void)file.object->NoteWritten(offset, std::min(length, size - offset));
  Publish(file);
}

void OpenFiles::Absorb(OpenFile& file) {
  std::lock_guard lock(file.mutex);
  if (!file.writable) return;
  file.object->NoteGrowth(file.appends);
  PublishLocked(file);
}

void OpenFiles::AbsorbAll() {
  for (const auto& file : All()) Absorb(*file);
}

Status OpenFiles::Truncate(OpenFile& file, uint64_t size) {
  Absorb(file);
  if (auto refreshed = Refresh(file); !refreshed) return refreshed;
  auto cut = file.object->Truncate(size);
  Publish(file);
  return cut;
}

Status OpenFiles::SetUnseen(OpenFile& file) {
  if (auto fetched = Fetch(file, 0, UINT64_MAX); !fetched) return fetched;
  if (auto kept = file.object->KeepTwin(); !kept) return kept;
  std::lock_guard lock(file.mutex);
  file.unseen = true;
  return Ok{};
}

void OpenFiles::SetShared(OpenFile& file) {
  std::lock_guard lock(file.mutex);
  file.shared = true;
}

void OpenFiles::SetLocked(OpenFile& file, bool records) {
  std::lock_guard lock(file.mutex);
  if (records) {
    table_.header.record_locks.store(1);
    if (file.entry != 0) table_.files[file.entry - 1].record_locks.store(1);
  }
  if (file.shared) return;
  file.shared = true;
  ++file.told;
  PublishLocked(file);
}

std::vector<std::shared_ptr<OpenFile>> OpenFiles::Beside(const OpenFile& file) {
  const auto directory_of = [](const std::string& key) { return key.substr(0, key.rfind('/') + 1); };
  const std::string directory = directory_of(file.object->key());
  std::vector<std::shared_ptr<OpenFile>> found;
  for (const auto& other : All()) {
    if (other.get() == &file || other->map != file.map || other->object->unlinked() ||
        !other->object->writable())
      continue;
    if (directory_of(other->object->key()) == directory) found.push_back(other);
  }
  return found;
}

std::shared_ptr<OpenFile> OpenFiles::FindLocked(size_t map, uint64_t lock, const std::string& key) {
  std::shared_ptr<OpenFile> found;
  for (const auto& file : All()) {
    if (file->map != map) continue;
    if (file->lock == lock) return file;
    if (!key.empty() && !file->object->unlinked() && file->object->key() == key) found = file;
  }
  return found;
}

// From here on every process asks before it reads or writes, for the entry says that nothing is here.
std::vector<std::shared_ptr<OpenFile>> OpenFiles::NoteStale(size_t map) {
  std::vector<std::shared_ptr<OpenFile>> stale;
  for (const auto& file : All()) {
    std::lock_guard lock(file->mutex);
    if (!file->shared || file->map != map) continue;
    ++file->told;
    PublishLocked(*file);
    stale.push_back(file);
  }
  return stale;
}

bool OpenFiles::IsStale(OpenFile& file) {
  std::lock_guard lock(file.mutex);
  return file.told != file.looked;
}

Status OpenFiles::Refresh(OpenFile& file) {
  if (!IsStale(file)) return Ok{};
  std::lock_guard one_at_a_time(file.refresh_mutex);
  uint64_t told;
  {
    std::lock_guard lock(file.mutex);
    told = file.told;
    if (told == file.looked) return Ok{};
  }
  auto refreshed = file.object->Refresh();
  std::lock_guard lock(file.mutex);
  if (refreshed) file.looked = told;
  PublishLocked(file);
  return refreshed;
}

// The next flush sends all of it.
void OpenFiles::NoteRewritten(OpenFile& file) {
  std::lock_guard lock(file.mutex);
  file.rewritten = true;
}

// What of an unseen file is no longer what it was.
Status OpenFiles::FindUnseen(OpenFile& file) {
  {
    std::lock_guard lock(file.mutex);
    if (std::exchange(file.rewritten, false) && file.object->IsWhole())
      (void)file.object->NoteWritten(0, std::min(LocalSize(file), file.object->attributes().size));
    if (!file.unseen) return Ok{};
  }
  return file.object->NoteMemory();
}

void OpenFiles::SetWatcher(Watcher watcher) {
  std::call_once(watching_, [&] {
    watcher_ = std::move(watcher);
    watched_ = true;
  });
}

void OpenFiles::NoteStored(const OpenFile& file) {
  if (!file.object->unlinked()) watcher_(file);
}

Status OpenFiles::Flush(OpenFile& file) {
  Absorb(file);
  if (auto found = FindUnseen(file); !found) return found;
  const bool watched = watched_ && file.object->changed();
  auto sent = write_back_ != nullptr ? write_back_->Sync(file.object) : file.object->Flush();
  if (watched && sent) NoteStored(file);
  file.unstored = !sent;
  Publish(file);
  return sent;
}

Status OpenFiles::FlushByClose(OpenFile& file) {
  if (write_back_ == nullptr || !put_off_) return Flush(file);
  Absorb(file);
  if (auto found = FindUnseen(file); !found) return found;
  const bool watched = watched_ && file.object->changed();
  auto closed = write_back_->Close(file.object);
  if (watched && closed) NoteStored(file);
  Publish(file);
  return put_off_ || !closed ? closed : Flush(file);
}

Status OpenFiles::FlushAll(std::set<size_t>* sent_maps) {
  Status first = Ok{};
  for (const auto& file : All()) {
    bool writable;
    {
      std::lock_guard lock(file->mutex);
      writable = file->writable;
    }
    if (!writable) continue;
    Absorb(*file);
    auto sent = FindUnseen(*file);
    if (sent && !file->object->ahead_of_store()) continue;
    if (sent) sent = Flush(*file);
    if (sent_maps != nullptr) sent_maps->insert(file->map);
    if (!sent && first) first = sent;
  }
  // Of those that nobody has open any more.
  AwaitClosed();
  return first;
}

void OpenFiles::Sweep(const std::function<void(const std::string&, const Error&)>& failed) {
  for (const auto& file : All()) {
    {
      std::lock_guard lock(mutex_);
      if (file->pins != 0 || !file::IsAlone(file->object->fd())) continue;
    }
    bool writable;
    {
      std::lock_guard lock(file->mutex);
      writable = file->writable;
    }
    if (writable && !file->object->unlinked()) {
      auto sent = FlushByClose(*file);
      if (!sent) failed(file->object->key(), sent.error());
    }
    std::lock_guard lock(mutex_);
    if (file->pins != 0 || !file::IsAlone(file->object->fd())) continue;
    const auto found = files_.find({file->device, file->inode});
    if (found == files_.end() || found->second != file) continue;
    GiveEntryBack(*file);
    files_.erase(found);
  }
}

bool OpenFiles::empty() {
  std::lock_guard lock(mutex_);
  return files_.empty();
}

}  // namespace elsewhere::runtime
