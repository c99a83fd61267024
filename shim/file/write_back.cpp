#include "shim/file/write_back.h"

namespace elsewhere::file {

std::optional<Error> WriteBack::TakeError(ObjectFile* key) {
  auto entry = entries_.find(key);
  if (entry == entries_.end()) return std::nullopt;
  return std::exchange(entry->second.error, std::nullopt);
}

Status WriteBack::Close(const std::shared_ptr<ObjectFile>& file) {
  uint64_t bytes = file->unsent_bytes();
  bool changed = file->changed();
  std::unique_lock lock(mutex_);
  auto failed = TakeError(file.get());
  if (!changed) {
    if (failed) return *failed;
    return Ok{};
  }
  sent_.wait(lock, [&] { return unsent_ + bytes <= limits_.unsent_bytes || sending_ == 0; });
  if (unsent_ + bytes > limits_.unsent_bytes) {
    lock.unlock();
    auto sent = Sync(file);
    if (failed) return *failed;
    return sent;
  }
  Entry& entry = entries_[file.get()];
  entry.file = file;
  unsent_ += bytes - entry.bytes;
  entry.bytes = bytes;
  if (entry.sending) {
    entry.again = true;
  } else {
    entry.sending = true;
    ++sending_;
    senders_.Start([this, key = file.get()] { Send(key); });
  }
  if (failed) return *failed;
  return Ok{};
}

void WriteBack::Send(ObjectFile* key) {
  std::unique_lock lock(mutex_);
  std::shared_ptr<ObjectFile> file = entries_.at(key).file;
  Status status = Ok{};
  do {
    entries_.at(key).again = false;
    lock.unlock();
    status = file->Flush();
    lock.lock();
  } while (entries_.at(key).again);
  Entry& entry = entries_.at(key);
  entry.sending = false;
  --sending_;
  if (status) {
    unsent_ -= entry.bytes;
    entries_.erase(key);
  } else {
    entry.error = status.error();
  }
  sent_.notify_all();
  // The last reference may go here, and its end takes a while.
  lock.unlock();
}

Status WriteBack::Sync(const std::shared_ptr<ObjectFile>& file) {
  auto sent = file->Flush();
  std::lock_guard lock(mutex_);
  auto entry = entries_.find(file.get());
  if (entry == entries_.end()) return sent;
  auto failed = TakeError(file.get());
  if (sent && !entry->second.sending) {
    unsent_ -= entry->second.bytes;
    entries_.erase(entry);
    sent_.notify_all();
  }
  if (failed) return *failed;
  return sent;
}

void WriteBack::Drain() {
  std::unique_lock lock(mutex_);
  sent_.wait(lock, [&] { return sending_ == 0; });
}

std::vector<WriteBack::Failure> WriteBack::Finish() {
  Drain();
  std::vector<std::shared_ptr<ObjectFile>> left;
  {
    std::lock_guard lock(mutex_);
    for (auto& [key, entry] : entries_) left.push_back(entry.file);
  }
  std::vector<Failure> failures;
  for (auto& file : left) {
    {
      std::lock_guard lock(mutex_);
      (void)TakeError(file.get());
    }
    auto sent = Sync(file);
    if (!sent) failures.push_back({file->key(), sent.error()});
  }
  return failures;
}

uint64_t WriteBack::Unsent() const {
  std::lock_guard lock(mutex_);
  return unsent_;
}

}  // namespace elsewhere::file
