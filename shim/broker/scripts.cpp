#include "shim/broker/scripts.h"

#include <openssl/evp.h>

#include <vector>

namespace elsewhere::broker {
namespace {

std::string Sha1Hex(std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha1(), nullptr);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    hex.push_back("0123456789abcdef"[digest[i] >> 4]);
    hex.push_back("0123456789abcdef"[digest[i] & 15]);
  }
  return hex;
}

std::string Format(std::string_view verb, std::string_view script, std::span<const std::string_view> keys,
                   std::span<const std::string_view> arguments) {
  const std::string count = std::to_string(keys.size());
  std::vector<std::string_view> all{verb, script, count};
  all.insert(all.end(), keys.begin(), keys.end());
  all.insert(all.end(), arguments.begin(), arguments.end());
  std::string wire;
  AppendCommand(&wire, all);
  return wire;
}

std::vector<std::string> Copy(std::span<const std::string_view> texts) {
  return {texts.begin(), texts.end()};
}

std::vector<std::string_view> Views(const std::vector<std::string>& texts) {
  return {texts.begin(), texts.end()};
}

}  // namespace

Script::Script(std::string_view body) : body_(body), digest_(Sha1Hex(body)) {}

void RunScript(RedisConnection& connection, const Script& script, std::span<const std::string_view> keys,
               std::span<const std::string_view> arguments, RedisConnection::Callback callback, Repeat repeat,
               Wake wake) {
  auto on_reply = [&connection, &script, keys = Copy(keys), arguments = Copy(arguments),
                   callback = std::move(callback), repeat](const Reply& reply) {
    if (reply.IsError() && reply.text().starts_with("NOSCRIPT")) {
      connection.Submit(Format("EVAL", script.body(), Views(keys), Views(arguments)), callback, repeat);
    } else if (callback) {
      callback(reply);
    }
  };
  connection.Submit(Format("EVALSHA", script.digest(), keys, arguments), std::move(on_reply), repeat, wake);
}

Result<OwnedReply> RunScript(SyncClient& client, const Script& script, std::span<const std::string_view> keys,
                             std::span<const std::string_view> arguments) {
  const std::string count = std::to_string(keys.size());
  std::vector<std::string_view> all{"EVAL", script.body(), count};
  all.insert(all.end(), keys.begin(), keys.end());
  all.insert(all.end(), arguments.begin(), arguments.end());
  return client.Command(all);
}

}  // namespace elsewhere::broker
