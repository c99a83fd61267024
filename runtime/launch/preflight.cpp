#include "runtime/launch/preflight.h"

#include <chrono>
#include <cstdlib>

#include "runtime/file/maps.h"
#include "runtime/launch/program.h"
#include "runtime/launch/session_directory.h"
#include "shim/broker/redis_url.h"
#include "shim/broker/session_keys.h"
#include "shim/broker/sync_client.h"
#include "shim/store/object_store.h"

namespace elsewhere::runtime {
namespace {

constexpr std::chrono::milliseconds kRedisLimit{5000};

Result<std::unique_ptr<broker::SyncClient>> Connect(const std::string& url) {
  Result<broker::RedisUrl> parsed = broker::ParseRedisUrl(url);
  if (!parsed.ok()) return parsed.error();
  return broker::SyncClient::Connect(*parsed, kRedisLimit);
}

}  // namespace

Result<std::string> CheckRedis(const std::string& url) {
  Result<std::unique_ptr<broker::SyncClient>> client = Connect(url);
  if (!client.ok()) return client.error();
  return (*client)->CheckVersion();
}

Result<std::string> FindRedisServer() {
  const char* path = std::getenv("PATH");
  FoundProgram found = FindProgram(
      "redis-server", (std::string(path == nullptr ? "" : path) + ":/usr/bin:/bin:/usr/local/bin").c_str());
  if (!found.ok)
    return Error{ENOENT,
                 "redis-server is not installed: apt install redis-server, or name a Redis by --redis URL"};
  return found.program.path;
}

Status CheckStore(const std::string& url, const std::string& session_id) {
  Result<std::shared_ptr<store::ObjectStore>> opened = store::OpenStore(url);
  if (!opened.ok()) return opened.error();
  const std::string key = "probe-" + session_id;
  if (Result<store::ObjectInfo> put = (*opened)->Put(key, session_id); !put.ok()) return put.error();
  Result<store::Object> got = (*opened)->Get(key);
  Status deleted = (*opened)->Delete(key);
  if (!got.ok()) return got.error();
  if (got->body != session_id)
    return Error{EIO, "store " + url + " returned another content than was written"};
  return deleted;
}

Status CheckServices(const Options& options) {
  Result<std::string> redis = options.redis.empty() ? FindRedisServer() : CheckRedis(options.redis);
  if (!redis.ok()) return redis.error();
  if (!options.maps.empty()) {
    FileOptions files;
    files.maps = options.maps;
    files.endpoint = options.endpoint;
    if (auto checked = CheckMaps(files); !checked.ok()) return checked;
  }
  return options.store.empty() ? Status(Ok{}) : CheckStore(options.store, MakeSessionId());
}

Status RemoveKeys(const std::string& url, const std::string& session_id) {
  Result<broker::RedisUrl> parsed = broker::ParseRedisUrl(url);
  if (!parsed.ok()) return parsed.error();
  return broker::RemoveSession(*parsed, broker::SessionKeys(session_id), kRedisLimit);
}

}  // namespace elsewhere::runtime
