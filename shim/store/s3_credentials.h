// Where S3 credentials come from, in the order of AWS's own tools:
//   1. a profile named by the caller: ~/.aws/credentials and ~/.aws/config
//   2. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN (also what AWS Lambda sets)
//   3. the profile AWS_PROFILE or "default"
//   4. container: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI, with
//   AWS_CONTAINER_AUTHORIZATION_TOKEN(_FILE)
//   5. instance metadata, version 2, unless AWS_EC2_METADATA_DISABLED is true
// Not done: credential_process, single sign-on, assumed roles. A profile that has only these is refused by
// name.
//
// Thread-safety: Current may be called from any thread. Temporary credentials are fetched again five minutes
// before they expire; when that fails they are used until they do.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "shim/store/http_client.h"
#include "shim/store/s3_sign.h"

namespace elsewhere::store {

class S3CredentialSource {
 public:
  explicit S3CredentialSource(const std::string& profile);

  // EACCES: there are none; the message says where was looked.
  Result<S3Credentials> Current();
  // Called when the server says that they have expired.
  void Forget();

  // What the profile says beside the keys: "region", "endpoint_url"; empty when it does not.
  std::string Setting(const std::string& name) const;

 private:
  Result<S3Credentials> Load();
  Result<S3Credentials> FromProfile() const;
  Result<S3Credentials> FromContainer();
  Result<S3Credentials> FromInstance();
  HttpClient& Http();

  const bool profile_named_;
  const std::string profile_;
  std::map<std::string, std::string> settings_;
  std::mutex mutex_;
  S3Credentials current_;
  bool loaded_ = false;
  std::unique_ptr<HttpClient> http_;
};

// The string members of a flat JSON object, as the metadata services send; empty when it is none.
std::map<std::string, std::string> ParseFlatJson(std::string_view text);

}  // namespace elsewhere::store
