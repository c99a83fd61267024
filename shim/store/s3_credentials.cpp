#include "shim/store/s3_credentials.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <fstream>

#include "shim/store/s3_xml.h"

namespace elsewhere::store {
namespace {

constexpr int64_t kRefreshBefore_s = 300;

std::string Environment(const char* name) {
  const char* value = getenv(name);
  return value ? value : "";
}

std::string HomeDirectory() {
  std::string home = Environment("HOME");
  if (!home.empty()) return home;
  const passwd* entry = getpwuid(getuid());
  return entry ? entry->pw_dir : "/";
}

std::string Trimmed(const std::string& text) {
  size_t from = text.find_first_not_of(" \t\r"), to = text.find_last_not_of(" \t\r");
  return from == text.npos ? "" : text.substr(from, to - from + 1);
}

// One section of an ini file; settings that are there already stay.
void ReadSection(const std::string& path, const std::string& section,
                 std::map<std::string, std::string>* settings) {
  std::ifstream file(path);
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    // An indented line continues a nested setting, which we do not use.
    if (line.empty() || line[0] == '#' || line[0] == ';' || line[0] == ' ' || line[0] == '\t') continue;
    line = Trimmed(line);
    if (line[0] == '[') {
      inside = line.size() > 2 && Trimmed(line.substr(1, line.find(']') - 1)) == section;
      continue;
    }
    size_t equals = line.find('=');
    if (inside && equals != line.npos)
      settings->emplace(Trimmed(line.substr(0, equals)), Trimmed(line.substr(equals + 1)));
  }
}

std::map<std::string, std::string> ReadProfile(const std::string& profile) {
  std::string directory = HomeDirectory() + "/.aws/";
  std::string credentials = Environment("AWS_SHARED_CREDENTIALS_FILE"),
              config = Environment("AWS_CONFIG_FILE");
  std::map<std::string, std::string> settings;
  ReadSection(credentials.empty() ? directory + "credentials" : credentials, profile, &settings);
  ReadSection(config.empty() ? directory + "config" : config,
              profile == "default" ? profile : "profile " + profile, &settings);
  return settings;
}

Result<S3Credentials> FromJson(const std::string& text, const std::string& where) {
  auto members = ParseFlatJson(text);
  S3Credentials found{members["AccessKeyId"], members["SecretAccessKey"], members["Token"]};
  if (found.access_key.empty() || found.secret_key.empty())
    return Error{EACCES, where + " sent no credentials"};
  int64_t expires_ns = ParseTime(members["Expiration"]);
  if (expires_ns > 0) found.expires_s = expires_ns / 1'000'000'000;
  return found;
}

}  // namespace

std::map<std::string, std::string> ParseFlatJson(std::string_view text) {
  std::map<std::string, std::string> members;
  std::string pending;
  bool have_name = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ',') have_name = false;
    if (text[i] != '"') continue;
    std::string value;
    for (++i; i < text.size() && text[i] != '"'; ++i) {
      if (text[i] == '\\' && i + 1 < text.size()) ++i;  // keys and tokens have no escapes but \/ and \"
      value += text[i];
    }
    if (have_name) members[pending] = value;
    have_name = !have_name;
    pending = value;
  }
  return members;
}

S3CredentialSource::S3CredentialSource(const std::string& profile)
    : profile_named_(!profile.empty()),
      profile_(profile_named_                        ? profile
               : !Environment("AWS_PROFILE").empty() ? Environment("AWS_PROFILE")
                                                     : "default"),
      settings_(ReadProfile(profile_)) {}

std::string S3CredentialSource::Setting(const std::string& name) const {
  auto found = settings_.find(name);
  return found == settings_.end() ? "" : found->second;
}

void S3CredentialSource::Forget() {
  std::lock_guard lock(mutex_);
  loaded_ = false;
}

Result<S3Credentials> S3CredentialSource::Current() {
  std::lock_guard lock(mutex_);
  int64_t now = time(nullptr);
  if (loaded_ && now < current_.expires_s - kRefreshBefore_s) return current_;
  auto fresh = Load();
  if (!fresh && loaded_ && now < current_.expires_s) return current_;
  if (!fresh) return fresh.error();
  current_ = *fresh;
  loaded_ = true;
  return current_;
}

Result<S3Credentials> S3CredentialSource::Load() {
  if (profile_named_) return FromProfile();
  S3Credentials direct{Environment("AWS_ACCESS_KEY_ID"), Environment("AWS_SECRET_ACCESS_KEY"),
                       Environment("AWS_SESSION_TOKEN")};
  if (!direct.access_key.empty() && !direct.secret_key.empty()) return direct;
  if (!settings_.empty()) {
    auto found = FromProfile();
    if (found || !Environment("AWS_PROFILE").empty()) return found;
  }
  auto found = FromContainer();
  if (!found && found.error().code == ENOENT) found = FromInstance();
  if (found || found.error().code != ENOENT) return found;
  return Error{EACCES,
               "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in "
               "~/.aws/credentials "
               "(also looked for: container and instance metadata)"};
}

Result<S3Credentials> S3CredentialSource::FromProfile() const {
  S3Credentials found{Setting("aws_access_key_id"), Setting("aws_secret_access_key"),
                      Setting("aws_session_token")};
  if (!found.access_key.empty() && !found.secret_key.empty()) return found;
  for (const char* kind :
       {"credential_process", "sso_session", "sso_start_url", "role_arn", "web_identity_token_file"})
    if (settings_.contains(kind))
      return Error{
          EACCES,
          "AWS profile " + profile_ + " uses " + kind +
              ", which is not supported: export its keys, as with 'aws configure export-credentials'"};
  return Error{EACCES, "AWS profile " + profile_ + " has no aws_access_key_id and aws_secret_access_key"};
}

HttpClient& S3CredentialSource::Http() {
  if (!http_)
    http_ = std::make_unique<HttpClient>(
        HttpOptions{.connections = 1, .connect_timeout_ms = 1000, .stall_timeout_ms = 2000});
  return *http_;
}

Result<S3Credentials> S3CredentialSource::FromContainer() {
  std::string url = Environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  std::string relative = Environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  if (!relative.empty()) url = "http://169.254.170.2" + relative;
  if (url.empty()) return Error{ENOENT, ""};
  std::string token = Environment("AWS_CONTAINER_AUTHORIZATION_TOKEN");
  std::string token_file = Environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
  if (!token_file.empty()) {
    std::ifstream file(token_file);
    std::getline(file, token);
  }
  HttpRequest request{.method = "GET", .url = url};
  if (!token.empty()) request.headers.push_back("Authorization: " + token);
  auto answer = Http().Perform(request);
  if (!answer) return Error{EACCES, "container credentials at " + url + ": " + answer.error().message};
  if (answer->status != 200)
    return Error{EACCES, "container credentials at " + url + ": status " + std::to_string(answer->status)};
  return FromJson(answer->body, url);
}

Result<S3Credentials> S3CredentialSource::FromInstance() {
  if (Environment("AWS_EC2_METADATA_DISABLED") == "true") return Error{ENOENT, ""};
  std::string base = Environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
  if (base.empty()) base = "http://169.254.169.254";
  while (base.ends_with('/')) base.pop_back();
  auto token = Http().Perform({.method = "PUT",
                               .url = base + "/latest/api/token",
                               .headers = {"X-aws-ec2-metadata-token-ttl-seconds: 21600"}});
  // Outside of EC2 nobody answers at this address, or somebody who has no idea.
  if (!token || token->status != 200) return Error{ENOENT, ""};
  std::string header = "X-aws-ec2-metadata-token: " + token->body;
  std::string roles = base + "/latest/meta-data/iam/security-credentials/";
  auto role = Http().Perform({.method = "GET", .url = roles, .headers = {header}});
  if (!role || role->status != 200 || role->body.empty()) return Error{ENOENT, ""};
  auto answer = Http().Perform(
      {.method = "GET", .url = roles + role->body.substr(0, role->body.find('\n')), .headers = {header}});
  if (!answer || answer->status != 200)
    return Error{EACCES, "instance metadata has a role but sent no credentials"};
  if (settings_.find("region") == settings_.end()) {
    auto region = Http().Perform(
        {.method = "GET", .url = base + "/latest/meta-data/placement/region", .headers = {header}});
    if (region && region->status == 200) settings_["region"] = region->body;
  }
  return FromJson(answer->body, "instance metadata");
}

}  // namespace elsewhere::store
