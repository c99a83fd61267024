#include "shim/broker/session_keys.h"

#include <algorithm>
#include <array>
#include <thread>

#include "shim/broker/scripts.h"

namespace elsewhere::broker {
namespace {

constexpr std::chrono::milliseconds kRetryDelay{50};

// KEYS: marker hosts claims. ARGV: secret lifetime.
// The placeholders keep Redis from dropping an emptied key, whose successor would have no time to live.
constexpr std::string_view kCreateBody = R"lua(-- elsewhere create 2
if redis.call('SET', KEYS[1], ARGV[1], 'NX') == false then
  return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
end
redis.call('SADD', KEYS[2], '')
redis.call('HSET', KEYS[3], '', '')
for i = 1, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
return 1
)lua";

// KEYS: marker hosts inbox. ARGV: host lifetime.
constexpr std::string_view kJoinBody = R"lua(-- elsewhere join 1
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('NOSESSION the session is gone') end
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[3], 'g', '$', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', KEYS[3], 'g')
  redis.call('EXPIRE', KEYS[3], ARGV[2])
  redis.call('SADD', KEYS[2], ARGV[1])
end
return 1
)lua";

// KEYS: marker hosts claims. ARGV: prefix of inboxes, lifetime.
// The inboxes' names are made from the hosts set; they share the hash tag, so a cluster accepts them.
constexpr std::string_view kHeartbeatBody = R"lua(-- elsewhere heartbeat 1
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('NOSESSION the session is gone') end
for i = 1, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
for _, host in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if host ~= '' then redis.call('EXPIRE', ARGV[1] .. host, ARGV[2]) end
end
return 1
)lua";

// KEYS: marker claims. ARGV: incarnation claimant.
constexpr std::string_view kClaimBody = R"lua(-- elsewhere claim 1
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('NOSESSION the session is gone') end
redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[2], ARGV[1])
)lua";

const Script& CreateScript() {
  static const Script script(kCreateBody);
  return script;
}
const Script& JoinScript() {
  static const Script script(kJoinBody);
  return script;
}
const Script& HeartbeatScript() {
  static const Script script(kHeartbeatBody);
  return script;
}
const Script& ClaimScript() {
  static const Script script(kClaimBody);
  return script;
}

std::array<std::string, 3> FixedKeys(const SessionKeys& keys) {
  return {keys.marker(), keys.hosts(), keys.claims()};
}

std::vector<std::string_view> Views(const std::array<std::string, 3>& names) {
  return {names.begin(), names.end()};
}

Status ToStatus(const Reply& reply, const char* what) {
  if (reply.IsInteger() && reply.integer() == 1) return Ok{};
  const std::string_view text = reply.text();
  if (text.starts_with("NOSESSION"))
    return Error{ESTALE, std::string(what) + ": the session is gone from Redis"};
  return Error{EPROTO, std::string(what) + ": " + std::string(text)};
}

Status ToStatus(const Result<OwnedReply>& reply, const char* what) {
  if (!reply) return reply.error();
  return ToStatus(reply->view(), what);
}

const std::string& Lifetime() {
  static const std::string text = std::to_string(kKeyLifetime.count());
  return text;
}

}  // namespace

std::vector<std::string_view> SessionScripts() {
  return {kJoinBody, kHeartbeatBody, kClaimBody};
}

Status CreateSession(SyncClient& client, const SessionKeys& keys, std::string_view secret) {
  const auto names = FixedKeys(keys);
  const std::array<std::string_view, 2> arguments{secret, Lifetime()};
  Result<OwnedReply> reply = RunScript(client, CreateScript(), Views(names), arguments);
  if (reply && reply->view().IsInteger() && reply->view().integer() == 0)
    return Error{EEXIST, "Redis already holds a session '" + keys.prefix() + "'"};
  return ToStatus(reply, "creating the session");
}

Status JoinHost(SyncClient& client, const SessionKeys& keys, HostId host) {
  const std::string marker = keys.marker(), hosts = keys.hosts(), inbox = keys.inbox(host);
  const std::string number = std::to_string(host);
  const std::array<std::string_view, 3> names{marker, hosts, inbox};
  const std::array<std::string_view, 2> arguments{number, Lifetime()};
  return ToStatus(RunScript(client, JoinScript(), names, arguments), "joining the session");
}

void JoinHost(RedisConnection& connection, const SessionKeys& keys, HostId host,
              std::function<void(Status)> callback) {
  const std::string marker = keys.marker(), hosts = keys.hosts(), inbox = keys.inbox(host);
  const std::string number = std::to_string(host);
  const std::array<std::string_view, 3> names{marker, hosts, inbox};
  const std::array<std::string_view, 2> arguments{number, Lifetime()};
  RunScript(connection, JoinScript(), names, arguments, [callback = std::move(callback)](const Reply& reply) {
    callback(ToStatus(reply, "joining the session"));
  });
}

void Heartbeat(RedisConnection& connection, const SessionKeys& keys, std::function<void(Status)> callback) {
  const auto names = FixedKeys(keys);
  const std::string inboxes = keys.inbox_prefix();
  const std::array<std::string_view, 2> arguments{inboxes, Lifetime()};
  RunScript(connection, HeartbeatScript(), Views(names), arguments,
            [callback = std::move(callback)](const Reply& reply) { callback(ToStatus(reply, "heartbeat")); });
}

void Claim(RedisConnection& connection, const SessionKeys& keys, uint64_t incarnation,
           std::string_view claimant, std::function<void(Result<std::string>)> callback) {
  const std::string marker = keys.marker(), claims = keys.claims(), number = std::to_string(incarnation);
  const std::array<std::string_view, 2> names{marker, claims};
  const std::array<std::string_view, 2> arguments{number, claimant};
  RunScript(connection, ClaimScript(), names, arguments,
            [callback = std::move(callback)](const Reply& reply) {
              if (reply.IsString()) return callback(std::string(reply.text()));
              const Status status = ToStatus(reply, "claim");
              callback(status ? Error{EPROTO, "claim: unexpected answer"} : status.error());
            });
}

Status RemoveSession(SyncClient& client, const SessionKeys& keys) {
  // The marker goes first: from then on no script creates anything and what follows sees every inbox there
  // is.
  Result<OwnedReply> reply = client.Command({"DEL", keys.marker()});
  if (!reply) return reply.error();
  reply = client.Command({"SMEMBERS", keys.hosts()});
  if (!reply) return reply.error();
  std::vector<std::string> names;
  for (const std::string& name : FixedKeys(keys)) names.push_back(name);
  for (size_t i = 0; i < reply->view().size(); ++i) {
    if (const auto host = reply->view()[i].text(); !host.empty())
      names.push_back(keys.inbox_prefix() + std::string(host));
  }
  std::vector<std::string_view> command{"UNLINK"};
  command.insert(command.end(), names.begin(), names.end());
  reply = client.Command(command);
  if (!reply) return reply.error();
  return Ok{};
}

Status RemoveSession(const RedisUrl& url, const SessionKeys& keys, std::chrono::milliseconds limit) {
  using Clock = std::chrono::steady_clock;
  const auto until = Clock::now() + limit;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    auto client = SyncClient::Connect(url, std::max(left, std::chrono::milliseconds(1)));
    Status removed = client ? RemoveSession(**client, keys) : Status(client.error());
    if (removed || removed.error().code != EIO || Clock::now() + kRetryDelay > until) return removed;
    std::this_thread::sleep_for(kRetryDelay);
  }
}

}  // namespace elsewhere::broker
