#include "shim/broker/server_errors.h"

#include <string>

namespace elsewhere::broker {

Error ExplainServerError(const RedisUrl& url, std::string_view text) {
  const std::string where = "Redis at " + url.Display();
  const std::string quoted = " (it said: " + std::string(text) + ")";
  const auto starts = [text](std::string_view prefix) { return text.starts_with(prefix); };
  if (starts("WRONGPASS")) return {EACCES, where + " refuses this user name or password" + quoted};
  if (starts("NOAUTH")) return {EACCES, where + " needs a password: redis://[user]:password@host" + quoted};
  if (starts("ERR AUTH") || starts("ERR Client sent AUTH"))
    return {EACCES, where + " has no password set, but the URL gives one" + quoted};
  if (starts("NOPERM")) return {EACCES, where + " does not permit this user what a session needs" + quoted};
  if (starts("ERR DB index") || starts("ERR invalid DB"))
    return {EINVAL, where + " has no database " + std::to_string(url.database) + quoted};
  if (starts("OOM")) return {ENOMEM, where + " is out of memory (maxmemory)" + quoted};
  if (starts("LOADING") || starts("BUSY") || starts("ERR max number of clients") || starts("MASTERDOWN") ||
      starts("CLUSTERDOWN") || starts("TRYAGAIN"))
    return {EAGAIN, where + " is not ready" + quoted};
  if (starts("READONLY")) return {EPROTO, where + " is a read-only replica; name the primary" + quoted};
  if (starts("MOVED") || starts("ASK"))
    return {EPROTO, where + " is a cluster node that does not hold this session; name the node it points to" +
                        quoted};
  if (starts("DENIED")) return {EACCES, where + " is in protected mode; give it a password" + quoted};
  return {EPROTO, where + " answered with an error" + quoted};
}

std::string_view InfoField(std::string_view info, std::string_view name) {
  for (size_t at = 0; at < info.size();) {
    size_t end = info.find("\r\n", at);
    if (end == std::string_view::npos) end = info.size();
    const std::string_view line = info.substr(at, end - at);
    if (line.starts_with(name) && line.size() > name.size() && line[name.size()] == ':')
      return line.substr(name.size() + 1);
    at = end + 2;
  }
  return {};
}

Reply ConnectionLostReply() {
  static const std::string_view text = "ELSEWHERE the connection to Redis was lost before the answer";
  static const ReplyNode node{ReplyNode::Kind::kError, 0, text.size(), 0};
  return Reply(text.data(), &node, 0);
}

}  // namespace elsewhere::broker
