// List of DirectoryStore: walks only the directories that can hold keys of the page, sorts, cuts, and reads
// sizes and versions of what is left.
#include <dirent.h>
#include <fcntl.h>
#include <time.h>

#include <algorithm>
#include <cstring>

#include "shim/store/directory_layout.h"
#include "shim/store/directory_new_file.h"

namespace elsewhere::store {
namespace {

struct DirectoryClose {
  void operator()(DIR* directory) const { closedir(directory); }
};

struct Item {
  std::string key;
  std::string path;  // empty: a folder
  bool operator<(const Item& other) const { return key < other.key; }
};

class Walk {
 public:
  Walk(int root, const ListRequest& request)
      : root_(root), request_(request), after_(request.token.empty() ? request.start_after : request.token) {}

  // A directory that vanishes meanwhile is empty.
  void Visit(const std::string& path, const std::string& base) {
    UniqueFd fd(openat(root_, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return;
    std::unique_ptr<DIR, DirectoryClose> directory(fdopendir(fd.get()));
    if (!directory) return;
    fd.Release();
    while (dirent* entry = readdir(directory.get())) {
      std::string component;
      bool is_directory;
      if (!ComponentOfName(entry->d_name, &component, &is_directory)) continue;
      std::string key = base + component + (is_directory ? "/" : "");
      std::string child = path + "/" + entry->d_name;
      is_directory ? Directory(child, key) : Add(std::move(key), std::move(child));
    }
  }

  std::vector<Item> items;

 private:
  void Directory(const std::string& path, const std::string& key) {
    if (!key.starts_with(request_.prefix) && !request_.prefix.starts_with(key)) return;
    bool folder = request_.folders && key.size() > request_.prefix.size();
    if (folder && key > after_) items.push_back({key, ""});
    if (folder || (key < after_ && !after_.starts_with(key))) return;
    Visit(path, key);
  }

  void Add(std::string key, std::string path) {
    if (!key.starts_with(request_.prefix) || key <= after_) return;
    bool folder = request_.folders && key.size() > request_.prefix.size() && key.back() == '/';
    items.push_back({std::move(key), folder ? "" : std::move(path)});
  }

  int root_;
  const ListRequest& request_;
  const std::string after_;
};

}  // namespace

Result<ListPage> DirectoryStore::List(const ListRequest& request) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  Walk walk(root_.get(), request);
  walk.Visit("objects", "");
  auto& items = walk.items;
  size_t count = std::min<size_t>(items.size(), std::max(1u, request.max_keys));
  std::partial_sort(items.begin(), items.begin() + ptrdiff_t(count), items.end());

  ListPage page{.at_ns = int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec};
  for (size_t i = 0; i < count; ++i) {
    if (items[i].path.empty()) {
      page.folders.push_back(items[i].key);
      continue;
    }
    UniqueFd fd(openat(root_.get(), items[i].path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd && errno == ENOENT) continue;
    if (!fd) return Fail(errno, "list", items[i].key);
    auto info = ReadObjectInfo(fd.get());
    if (!info) return Fail(info.error(), "list", items[i].key);
    page.objects.push_back({items[i].key, info->size, info->etag, info->modified_ns});
  }
  if (count < items.size()) page.next_token = items[count - 1].key;
  return page;
}

}  // namespace elsewhere::store
