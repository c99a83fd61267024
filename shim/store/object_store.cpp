#include "shim/store/object_store.h"

namespace elsewhere::store {

Status ObjectStore::CheckKey(std::string_view) const {
  return Ok{};
}

std::vector<Result<ObjectInfo>> ObjectStore::HeadMany(std::span<const std::string> keys) {
  std::vector<Result<ObjectInfo>> infos;
  for (auto& key : keys) infos.push_back(Head(key));
  return infos;
}

Result<LocalObject> ObjectStore::OpenLocal(std::string_view) {
  return Error{ENOTSUP, url() + ": objects of this store have no file on this machine"};
}

Result<uint64_t> ObjectStore::DeletePrefix(std::string_view prefix) {
  uint64_t deleted = 0;
  ListRequest request{.prefix = std::string(prefix)};
  for (;;) {
    auto page = List(request);
    if (!page) return page.error();
    std::vector<std::string> keys;
    for (auto& entry : page->objects) keys.push_back(std::move(entry.key));
    auto count = DeleteMany(keys);
    if (!count) return count.error();
    deleted += *count;
    if (page->next_token.empty()) return deleted;
    request.token = page->next_token;
  }
}

}  // namespace elsewhere::store
