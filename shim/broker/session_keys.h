// The life of a session in Redis: made, joined by hosts, kept alive, its claims decided, removed.
//
// Every key carries a time to live from its first moment and none is ever empty, so that what a crash leaves
// behind expires and nothing is created after removal (scripts refuse when the marker is gone; inboxes are
// only appended to when they exist). The time to live is for garbage only: it must be far longer than any
// heartbeat's delay.
//
// All operations may be repeated. Thread-safety: that of the connection given.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "shim/broker/keys.h"
#include "shim/broker/redis_connection.h"
#include "shim/broker/sync_client.h"

namespace elsewhere::broker {

inline constexpr std::chrono::seconds kKeyLifetime{3600};
inline constexpr std::chrono::seconds kHeartbeatInterval{300};

// Bodies for ConnectionOptions::scripts of a connection that uses this header or inbox.h.
std::vector<std::string_view> SessionScripts();

// Called once, by the launcher. `secret`: the marker's value, random; every agent checks it on connect.
// EEXIST if a session of this id is there already.
Status CreateSession(SyncClient& client, const SessionKeys& keys, std::string_view secret);

// Makes the host's inbox. Before anybody sends to it: home calls it, then starts the worker.
Status JoinHost(SyncClient& client, const SessionKeys& keys, HostId host);
void JoinHost(RedisConnection& connection, const SessionKeys& keys, HostId host,
              std::function<void(Status)> callback);

// To be called every kHeartbeatInterval by at least one agent. One round trip.
void Heartbeat(RedisConnection& connection, const SessionKeys& keys, std::function<void(Status)> callback);

// Who may run this incarnation. The first claimant wins for ever; the callback gets the winner's name,
// also when the question is repeated.
void Claim(RedisConnection& connection, const SessionKeys& keys, uint64_t incarnation,
           std::string_view claimant, std::function<void(Result<std::string>)> callback);

// Removes every key of the session; nothing is left, whatever state it was in. By the launcher, at the end.
Status RemoveSession(SyncClient& client, const SessionKeys& keys);
// The same, on a connection of its own and again on another when that breaks, until `limit`.
Status RemoveSession(const RedisUrl& url, const SessionKeys& keys, std::chrono::milliseconds limit);

}  // namespace elsewhere::broker
