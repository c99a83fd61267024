#include <string>

#include "shim/store/directory_store.h"

namespace elsewhere::store {

Result<std::shared_ptr<ObjectStore>> OpenStore(std::string_view url, const StoreOptions& options) {
  constexpr std::string_view kDirectory = "dir:";
  if (url.starts_with(kDirectory)) {
    std::string path(url.substr(kDirectory.size()));
    if (path.empty() || path[0] != '/')
      return Error{EINVAL, "store " + std::string(url) + ": write dir:/absolute/path"};
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    auto store = DirectoryStore::Open(path, options);
    if (!store) return store.error();
    return std::shared_ptr<ObjectStore>(std::move(*store));
  }
  return Error{EINVAL, "store " + std::string(url) + ": unknown kind; write dir:/absolute/path"};
}

}  // namespace elsewhere::store
