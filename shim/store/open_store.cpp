#include <unistd.h>

#include <algorithm>
#include <string>

#include "shim/store/directory_store.h"
#include "shim/store/s3_store.h"

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
  constexpr std::string_view kS3 = "s3://";
  if (url.starts_with(kS3)) {
    std::string bucket(url.substr(kS3.size()));
    size_t slash = bucket.find('/');
    std::string prefix = slash == bucket.npos ? "" : bucket.substr(slash + 1);
    bucket.resize(std::min(slash, bucket.size()));
    if (bucket.empty())
      return Error{EINVAL, "store " + std::string(url) + ": write s3://bucket or s3://bucket/prefix"};
    auto store = S3Store::Open(bucket, prefix, options);
    if (!store) return store.error();
    return std::shared_ptr<ObjectStore>(std::move(*store));
  }
  return Error{
      EINVAL, "store " + std::string(url) + ": unknown kind; write dir:/absolute/path or s3://bucket/prefix"};
}

std::vector<std::string> StoreEnvironment() {
  constexpr std::string_view kNames[] = {
      "HOME=",        "SSL_CERT_FILE=", "SSL_CERT_DIR=", "http_proxy=", "https_proxy=",
      "HTTPS_PROXY=", "no_proxy=",      "NO_PROXY=",     "all_proxy=",  "ALL_PROXY="};
  std::vector<std::string> heeded;
  for (char** variable = environ; *variable; ++variable) {
    std::string_view text = *variable;
    bool named =
        std::any_of(std::begin(kNames), std::end(kNames), [&](auto name) { return text.starts_with(name); });
    if (named || text.starts_with("AWS_")) heeded.emplace_back(text);
  }
  return heeded;
}

}  // namespace elsewhere::store
