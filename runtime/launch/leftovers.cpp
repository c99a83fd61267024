#include "runtime/launch/leftovers.h"

#include <algorithm>
#include <functional>
#include <map>

namespace elsewhere::runtime {
namespace {

constexpr size_t kIdSize = 32;

bool IsHex(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdef") == text.npos;
}

// "packs/<hex>/" of a key below it.
std::string ImagesPrefixOf(const std::string& key) {
  size_t begin = std::string_view("packs/").size(), end = key.find('/', begin);
  return end != key.npos && IsHex(std::string_view(key).substr(begin, end - begin)) ? key.substr(0, end + 1)
                                                                                    : "";
}

Status ForEachObject(store::ObjectStore& store, const std::string& prefix,
                     const std::function<void(const store::ListEntry&)>& visit) {
  store::ListRequest request{.prefix = prefix};
  do {
    auto page = store.List(request);
    if (!page) return page.error();
    for (auto& entry : page->objects) visit(entry);
    request.token = page->next_token;
  } while (!request.token.empty());
  return Ok{};
}

}  // namespace

Result<std::vector<Leftover>> FindLeftovers(store::ObjectStore& store, const LeftoverSearch& search) {
  int64_t latest = search.now_ns - std::chrono::nanoseconds(search.least_age).count();
  std::vector<Leftover> found;
  auto uploads = store.ListUploads("");
  if (!uploads) return uploads.error();
  for (auto& upload : *uploads)
    if (upload.started_ns <= latest)
      found.push_back({Leftover::Kind::kUpload, upload.key, upload.upload_id, upload.started_ns});
  auto probes = ForEachObject(store, "probe-", [&](const store::ListEntry& entry) {
    std::string id = entry.key.substr(std::string_view("probe-").size());
    if (id.size() == kIdSize && IsHex(id) && entry.size == kIdSize && entry.modified_ns <= latest)
      found.push_back({Leftover::Kind::kProbe, entry.key, "", entry.modified_ns, 1, entry.size});
  });
  if (!probes) return probes.error();
  if (!search.images) return found;
  std::map<std::string, Leftover> images;
  auto listed = ForEachObject(store, "packs/", [&](const store::ListEntry& entry) {
    std::string prefix = ImagesPrefixOf(entry.key);
    if (prefix.empty()) return;
    auto& leftover = images.try_emplace(prefix, Leftover{Leftover::Kind::kImages, prefix}).first->second;
    leftover.begun_ns = std::max(leftover.begun_ns, entry.modified_ns);
    ++leftover.objects;
    leftover.bytes += entry.size;
  });
  if (!listed) return listed.error();
  for (auto& [prefix, leftover] : images)
    if (leftover.begun_ns <= latest) found.push_back(leftover);
  return found;
}

Status RemoveLeftover(store::ObjectStore& store, const Leftover& leftover) {
  Status removed = Ok{};
  switch (leftover.kind) {
    case Leftover::Kind::kUpload:
      removed = store.AbortUpload(leftover.key, leftover.upload_id);
      break;
    case Leftover::Kind::kProbe:
      removed = store.Delete(leftover.key);
      break;
    case Leftover::Kind::kImages: {
      auto deleted = store.DeletePrefix(leftover.key);
      if (!deleted) removed = deleted.error();
      break;
    }
  }
  if (!removed && removed.error().code == ENOENT) return Ok{};
  return removed;
}

}  // namespace elsewhere::runtime
