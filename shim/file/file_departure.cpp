// FileSystem: open files whose names another host takes away (other_holders.h).
#include "shim/file/file_system.h"

namespace elsewhere::file {

std::vector<FileSystem::Held> FileSystem::OpenUnder(const std::string& from, const std::string& to) {
  std::vector<Held> held;
  const auto add = [&](const std::string& name, bool replaced) {
    if (name.empty()) return;
    if (auto file = FindOpen(name)) held.push_back({name, file, replaced});
    for (auto& [key, file] : OpenBelow(name + "/")) held.push_back({key, file, replaced});
  };
  add(from, false);
  add(to, true);
  return held;
}

// ESTALE: it was gone before.
Status FileSystem::Keep(const std::vector<Held>& held) {
  Status first = Ok{};
  for (const Held& each : held) {
    auto kept = each.file->Leaves();
    if (first && !kept && kept.error().code != ESTALE) first = kept;
  }
  return first;
}

void FileSystem::Settle(const std::vector<Held>& held, const std::string& from, const std::string& to,
                        bool done) {
  for (const Held& each : held) {
    if (done && (each.replaced || to.empty())) {
      each.file->RemovedElsewhere();
    } else if (done) {
      const std::string key = to + each.key.substr(from.size());
      // What lies in a renamed directory is copied as it is, with the number for its old key.
      Attributes now = each.file->attributes();
      each.key == from ? now.MoveTo(key) : now.ForgetInode();
      each.file->Renamed(key, "", now);
      std::lock_guard lock(mutex_);
      if (auto found = open_.find(each.key); found != open_.end() && found->second.lock() == each.file)
        open_.erase(found);
      // Somebody may have opened it under its new name already.
      auto& known = open_[key];
      if (known.expired()) known = each.file;
    }
    each.file->Settled();
  }
}

}  // namespace elsewhere::file
