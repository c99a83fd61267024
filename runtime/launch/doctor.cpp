#include "runtime/launch/doctor.h"

#include <cstdio>

#include "runtime/launch/host_probe.h"
#include "runtime/launch/installation.h"
#include "runtime/launch/preflight.h"
#include "runtime/launch/session_directory.h"

namespace elsewhere::runtime {
namespace {

Finding Redis(const Options& options) {
  if (!options.redis.empty()) {
    Result<std::string> version = CheckRedis(options.redis);
    if (version.ok()) return {Verdict::kOk, "Redis", "version " + *version, ""};
    return {Verdict::kMissing, "Redis", version.error().message,
            "start it, or leave --redis out for a private one"};
  }
  Result<std::string> server = FindRedisServer();
  if (server.ok()) return {Verdict::kOk, "Redis", "private, by " + *server, ""};
  return {Verdict::kMissing, "Redis", "no redis-server",
          "apt install redis-server, or name a Redis by --redis URL"};
}

Finding Store(const Options& options) {
  if (options.store.empty()) return {Verdict::kOk, "store", "private, in the session directory", ""};
  Status checked = CheckStore(options.store, MakeSessionId());
  if (checked.ok()) return {Verdict::kOk, "store", options.store, ""};
  return {Verdict::kMissing, "store", checked.error().message,
          "mend it, or leave --store out for a private one"};
}

Finding Parts() {
  Result<Installation> installation = FindInstallation();
  if (installation.ok()) return {Verdict::kOk, "preload", installation->preload, ""};
  return {Verdict::kMissing, "preload", installation.error().message, ""};
}

const char* Word(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kDegraded:
      return "without";
    case Verdict::kMissing:
      return "MISSING";
  }
  return "";
}

void Print(const Finding& finding) {
  std::printf("%-8s %-28s %s%s%s\n", Word(finding.verdict), finding.what.c_str(), finding.seen.c_str(),
              finding.then.empty() ? "" : " -> ", finding.then.c_str());
}

}  // namespace

int RunDoctor(const Options& options) {
  std::vector<Finding> findings = ProbeHost();
  findings.push_back(Redis(options));
  findings.push_back(Store(options));
  findings.push_back(Parts());
  bool can_run = true;
  for (const Finding& finding : findings) {
    Print(finding);
    can_run = can_run && finding.verdict != Verdict::kMissing;
  }
  std::printf("%s\n", can_run ? "A session can run here." : "A session cannot run here.");
  return can_run ? 0 : 1;
}

}  // namespace elsewhere::runtime
