#include "runtime/file/maps.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "shim/wire/file_call.h"

namespace elsewhere::runtime {
namespace {

constexpr unsigned kRequestsAtOnce = 64;        // of one host, all maps together
constexpr unsigned kConnections = 32;           // of one map
constexpr uint64_t kAttributeBytes = 64 << 20;  // of what is known of a quarter of a million objects
constexpr uint64_t kAttributeShare = 16;        // of the cache, the most

std::vector<gid_t> Groups() {
  const int count = getgroups(0, nullptr);
  std::vector<gid_t> groups(static_cast<size_t>(std::max(count, 0)));
  if (!groups.empty() && getgroups(count, groups.data()) < 0) groups.clear();
  return groups;
}

// A directory is written as the store that it is: dir:/path.
Result<std::shared_ptr<store::ObjectStore>> OpenStoreOf(const file::PathRule& rule,
                                                        const FileOptions& options) {
  store::StoreOptions wanted;
  wanted.endpoint = options.endpoint;
  wanted.connections = kConnections;
  return store::OpenStore(rule.url, wanted);
}

}  // namespace

Result<std::vector<file::PathRule>> ParseMaps(const std::string& maps) {
  std::vector<file::PathRule> rules;
  std::vector<std::string> texts;
  for (size_t at = 0; at < maps.size();) {
    const size_t end = std::min(maps.find(';', at), maps.size());
    if (end > at) texts.push_back(maps.substr(at, end - at));
    at = end + 1;
  }
  for (const std::string& text : texts) {
    auto rule = file::ParsePathRule(text);
    if (!rule) return rule.error();
    if (rule->directory.size() >= 256 || rule->directory.find('\n') != std::string::npos)
      return Error{EINVAL,
                   "the mapped directory " + rule->directory + " is too long or has a line end in it"};
    rules.push_back(std::move(*rule));
  }
  if (rules.size() > abi::kMostMaps)
    return Error{EINVAL, "there may be " + std::to_string(abi::kMostMaps) + " maps"};
  auto together = file::PathRules::Parse(texts);
  if (!together) return together.error();
  return rules;
}

std::string MapDirectories(const std::vector<file::PathRule>& rules) {
  std::string text;
  for (const file::PathRule& rule : rules) text += (text.empty() ? "" : "\n") + rule.directory;
  return text;
}

Status CheckMaps(const FileOptions& options) {
  auto rules = ParseMaps(options.maps);
  if (!rules) return rules.error();
  for (const file::PathRule& rule : *rules) {
    auto store = OpenStoreOf(rule, options);
    if (!store) return Error{store.error().code, "--map " + rule.directory + ": " + store.error().message};
    auto page = (*store)->List({.max_keys = 1});
    if (!page) return Error{page.error().code, "--map " + rule.directory + ": " + page.error().message};
  }
  return Ok{};
}

std::string DefaultFileCache() {
  for (const char* name : {"XDG_CACHE_HOME", "HOME"}) {
    const char* base = std::getenv(name);
    if (base == nullptr || *base != '/') continue;
    return std::string(base) + (std::string(name) == "HOME" ? "/.cache" : "") + "/elsewhere/files";
  }
  return "/tmp/elsewhere-files-" + std::to_string(geteuid());
}

Result<std::unique_ptr<Maps>> Maps::Open(const FileOptions& options, const std::string& tree) {
  auto rules = ParseMaps(options.maps);
  if (!rules) return rules.error();
  auto opened = std::make_unique<Maps>();
  const uint64_t attribute_bytes = std::min(kAttributeBytes, options.cache_bytes / kAttributeShare);
  auto cache = file::FileCache::Open(options.cache, options.cache_bytes - attribute_bytes);
  if (!cache) return cache.error();
  // Only walks are slower without it.
  auto attributes = file::AttributeCache::Open(options.cache + "/" + file::kAttributeTable, attribute_bytes);
  opened->cache_ = *cache;
  opened->workers_ = std::make_shared<file::Workers>(kRequestsAtOnce);
  for (const file::PathRule& rule : *rules) {
    auto store = OpenStoreOf(rule, options);
    if (!store) return store.error();
    file::FileSystemOptions wanted;
    wanted.mount_point = rule.directory;
    wanted.read_only = rule.read_only;
    wanted.plain = rule.plain;
    wanted.caller = {geteuid(), getegid(), Groups()};
    wanted.defaults.uid = geteuid();
    wanted.defaults.gid = getegid();
    Map map;
    map.rule = rule;
    map.tree = tree + "/" + std::to_string(opened->maps_.size());
    std::error_code error;
    std::filesystem::create_directories(map.tree, error);
    if (error) return Error{error.value(), "cannot make " + map.tree + ": " + error.message()};
    auto context = std::make_shared<file::FileContext>(
        file::FileContext{std::move(*store), opened->cache_, opened->workers_});
    if (attributes) context->attributes = *attributes;
    map.files = std::make_unique<file::FileSystem>(std::move(context), std::move(wanted));
    opened->maps_.push_back(std::move(map));
  }
  return opened;
}

}  // namespace elsewhere::runtime
