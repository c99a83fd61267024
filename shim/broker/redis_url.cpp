#include "shim/broker/redis_url.h"

#include <charconv>
#include <optional>

namespace elsewhere::broker {
namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> PercentDecode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = HexValue(text[i + 1]);
    const int low = HexValue(text[i + 2]);
    if (high < 0 || low < 0 || high + low == 0) return std::nullopt;
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return out;
}

template <class Number>
bool ParseNumber(std::string_view text, Number* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

// The password is what stands between the first ':' after the scheme and the last '@', and any password=
// parameter.
std::string Redact(std::string_view text) {
  std::string out(text);
  const size_t start = out.find("://");
  const size_t begin = start == std::string::npos ? 0 : start + 3;
  if (const size_t at = out.rfind('@'); at != std::string::npos && at >= begin) {
    const size_t colon = out.find(':', begin);
    if (colon < at) out.replace(colon + 1, at - colon - 1, "***");
  }
  for (size_t found = out.find("password="); found != std::string::npos;) {
    const size_t value = found + 9;
    size_t end = out.find('&', value);
    if (end == std::string::npos) end = out.size();
    out.replace(value, end - value, "***");
    found = out.find("password=", value);
  }
  return out;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : whole_(text), rest_(text) {}

  Result<RedisUrl> Run() {
    if (!TakeScheme()) return Bad("expected redis://, rediss:// or unix://");
    if (const size_t question = rest_.find('?'); question != std::string_view::npos) {
      query_ = rest_.substr(question + 1);
      rest_ = rest_.substr(0, question);
    }
    const char* wrong = url_.kind == RedisUrl::Kind::kUnix ? TakePath() : TakeAuthority();
    if (wrong == nullptr) wrong = TakeQuery();
    if (wrong != nullptr) return Bad(wrong);
    return std::move(url_);
  }

 private:
  Error Bad(const char* why) const { return Error{EINVAL, "bad Redis URL '" + Redact(whole_) + "': " + why}; }

  bool TakeScheme() {
    struct Scheme {
      std::string_view prefix;
      RedisUrl::Kind kind;
    };
    for (const Scheme& scheme :
         {Scheme{"redis://", RedisUrl::Kind::kTcp}, Scheme{"rediss://", RedisUrl::Kind::kTls},
          Scheme{"unix://", RedisUrl::Kind::kUnix}}) {
      if (!rest_.starts_with(scheme.prefix)) continue;
      url_.kind = scheme.kind;
      rest_.remove_prefix(scheme.prefix.size());
      return true;
    }
    return false;
  }

  const char* TakePath() {
    auto path = PercentDecode(rest_);
    if (!path) return "bad percent-encoding in the path";
    if (!path->starts_with('/')) return "the path of the socket must be absolute: unix:///path";
    if (path->size() > 107) return "the path of the socket is longer than 107 bytes";
    url_.path = std::move(*path);
    return nullptr;
  }

  const char* TakeAuthority() {
    std::string_view database;
    const size_t at = rest_.rfind('@');
    std::string_view place = at == std::string_view::npos ? rest_ : rest_.substr(at + 1);
    if (at != std::string_view::npos) {
      const std::string_view credentials = rest_.substr(0, at);
      const size_t colon = credentials.find(':');
      const bool has_password = colon != std::string_view::npos;
      if (!Decode(credentials.substr(0, colon), &url_.user)) return "bad percent-encoding in the user name";
      if (has_password && !Decode(credentials.substr(colon + 1), &url_.password))
        return "bad percent-encoding in the password";
      if (!url_.user.empty() && !has_password) return "a user name needs a password: user:password@host";
    }
    if (const size_t slash = place.find('/'); slash != std::string_view::npos) {
      database = place.substr(slash + 1);
      place = place.substr(0, slash);
    }
    if (!database.empty() && !TakeDatabase(database)) return "the database must be a number from 0 on";
    return TakeHostAndPort(place);
  }

  const char* TakeHostAndPort(std::string_view place) {
    std::string_view port;
    if (place.starts_with('[')) {
      const size_t close = place.find(']');
      if (close == std::string_view::npos) return "an IPv6 address needs a closing ']'";
      url_.host = place.substr(1, close - 1);
      place.remove_prefix(close + 1);
      if (!place.empty() && place[0] != ':') return "expected ':' and a port after ']'";
      if (!place.empty()) port = place.substr(1);
      if (place == ":") return "the port must be a number from 1 to 65535";
    } else {
      const size_t colon = place.find(':');
      if (!Decode(place.substr(0, colon), &url_.host)) return "bad percent-encoding in the host";
      if (colon != std::string_view::npos) {
        port = place.substr(colon + 1);
        if (port.empty()) return "the port must be a number from 1 to 65535";
      }
    }
    if (url_.host.empty()) return "the host is missing";
    if (!port.empty() && (!ParseNumber(port, &url_.port) || url_.port == 0))
      return "the port must be a number from 1 to 65535";
    return nullptr;
  }

  const char* TakeQuery() {
    const bool local = url_.kind == RedisUrl::Kind::kUnix;
    const bool tls = url_.kind == RedisUrl::Kind::kTls;
    while (!query_.empty()) {
      const std::string_view pair = query_.substr(0, query_.find('&'));
      query_.remove_prefix(std::min(query_.size(), pair.size() + 1));
      const size_t equals = pair.find('=');
      if (equals == std::string_view::npos) return "a parameter needs a value: ?name=value";
      const std::string_view name = pair.substr(0, equals);
      std::string value;
      if (!Decode(pair.substr(equals + 1), &value)) return "bad percent-encoding in a parameter";
      std::string* target = nullptr;
      if (local && name == "user") target = &url_.user;
      if (local && name == "password") target = &url_.password;
      if (tls && name == "cacert") target = &url_.ca_file;
      if (tls && name == "cert") target = &url_.certificate_file;
      if (tls && name == "key") target = &url_.key_file;
      if (name == "db") {
        if (!TakeDatabase(value)) return "the database must be a number from 0 on";
      } else if (target == nullptr) {
        return "unknown parameter";
      } else {
        *target = std::move(value);
      }
    }
    if (url_.certificate_file.empty() != url_.key_file.empty()) return "cert and key belong together";
    return nullptr;
  }

  bool TakeDatabase(std::string_view text) { return ParseNumber(text, &url_.database) && url_.database >= 0; }

  static bool Decode(std::string_view text, std::string* out) {
    auto decoded = PercentDecode(text);
    if (decoded) *out = std::move(*decoded);
    return decoded.has_value();
  }

  std::string_view whole_;
  std::string_view rest_;
  std::string_view query_;
  RedisUrl url_;
};

}  // namespace

std::string RedisUrl::Display() const {
  std::string text;
  const std::string who = user.empty() && password.empty() ? "" : user + (password.empty() ? "@" : ":***@");
  if (kind == Kind::kUnix) {
    text = "unix://" + path;
  } else {
    const bool v6 = host.find(':') != std::string::npos;
    text = (kind == Kind::kTls ? "rediss://" : "redis://") + who + (v6 ? "[" + host + "]" : host) + ":" +
           std::to_string(port);
  }
  if (database == 0) return text;
  return text + (kind == Kind::kUnix ? "?db=" : "/") + std::to_string(database);
}

Result<RedisUrl> ParseRedisUrl(std::string_view text) {
  return Parser(text).Run();
}

}  // namespace elsewhere::broker
