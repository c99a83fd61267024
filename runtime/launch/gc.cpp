#include "runtime/launch/gc.h"

#include <charconv>
#include <cstdio>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "runtime/launch/leftovers.h"
#include "runtime/launch/options.h"
#include "runtime/launch/processes.h"
#include "runtime/launch/session_directory.h"
#include "runtime/launch/summary.h"

namespace elsewhere::runtime {
namespace {

constexpr std::chrono::milliseconds kKillMayTake{5000};
constexpr char kHelp[] = R"(Usage: elsewhere gc [OPTIONS] [URL...]

Removes what killed sessions of yours left on this machine: their directories, and processes that outlived them. Below
each URL (s3://bucket[/prefix], dir:/path) it removes multipart uploads that nobody finished: they are in no listing,
but they are paid for.

  --dry-run          only list what would be removed
  --age AGE          only what is at least so old: 90s, 30m, 12h, 7d (default: 1d). Take more than your longest upload.
  --images           also images that sessions left there by `run --store URL`. AGE must then be longer than your
                     longest session, for nothing else tells whether one lives
  --endpoint URL     the S3 server, if it is not Amazon's: http://host:port
  --region REGION, --profile NAME    as of the aws command

Exit status: 0; 1 if something could not be looked at or removed; 2 wrong usage.
)";

struct GcOptions {
  bool help = false, dry_run = false;
  LeftoverSearch search;
  store::StoreOptions store;
  std::vector<std::string> urls;
};

std::optional<std::chrono::seconds> ParseAge(const std::string& text) {
  uint32_t number = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc() || end + 1 != text.data() + text.size()) return std::nullopt;
  switch (*end) {
    case 's':
      return std::chrono::seconds(number);
    case 'm':
      return std::chrono::minutes(number);
    case 'h':
      return std::chrono::hours(number);
    case 'd':
      return std::chrono::hours(24) * number;
    default:
      return std::nullopt;
  }
}

// Nothing, or what is wrong.
std::optional<std::string> Parse(const std::vector<std::string>& arguments, GcOptions* options) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string name = arguments[i], value;
    size_t equals = name.find('=');
    bool option = name.starts_with("--");
    if (option && equals != name.npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    bool takes_value = name == "--age" || name == "--endpoint" || name == "--region" || name == "--profile";
    if (takes_value && equals == std::string::npos) {
      if (++i == arguments.size()) return name + " needs a value";
      value = arguments[i];
    }
    if (!takes_value && option && equals != std::string::npos) return name + " takes no value";
    if (name == "--help" || name == "-h") {
      options->help = true;
    } else if (name == "--dry-run") {
      options->dry_run = true;
    } else if (name == "--images") {
      options->search.images = true;
    } else if (name == "--age") {
      auto age = ParseAge(value);
      if (!age) return "--age: '" + value + "' is no age: write 90s, 30m, 12h or 7d";
      options->search.least_age = *age;
    } else if (name == "--endpoint") {
      options->store.endpoint = value;
    } else if (name == "--region") {
      options->store.region = value;
    } else if (name == "--profile") {
      options->store.profile = value;
    } else if (name.starts_with("-")) {
      return "unknown option '" + name + "'";
    } else {
      options->urls.push_back(arguments[i]);
    }
  }
  return std::nullopt;
}

std::string TimeText(int64_t ns) {
  time_t seconds = ns / 1'000'000'000;
  tm parts{};
  char text[32];
  gmtime_r(&seconds, &parts);
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text;
}

std::string Describe(const std::string& url, const Leftover& leftover) {
  std::string where = url + "/" + leftover.key;
  switch (leftover.kind) {
    case Leftover::Kind::kUpload:
      return "upload  " + where + "  begun " + TimeText(leftover.begun_ns);
    case Leftover::Kind::kProbe:
      return "probe   " + where + "  of " + TimeText(leftover.begun_ns);
    case Leftover::Kind::kImages:
      return "images  " + where + "  last written " + TimeText(leftover.begun_ns) + ", " +
             std::to_string(leftover.objects) + " objects, " + std::to_string(leftover.bytes) + " bytes";
  }
  return where;
}

class Collector {
 public:
  explicit Collector(const GcOptions& options) : options_(options) {}

  int Run() {
    LookAtThisMachine();
    for (auto& url : options_.urls) LookAt(url);
    std::printf("%zu found, %zu removed%s\n", found_, removed_,
                options_.dry_run ? " (--dry-run)"
                : failed_        ? ", see the messages above"
                                 : "");
    return std::fflush(stdout) == 0 && !failed_ ? 0 : 1;
  }

 private:
  void LookAtThisMachine() {
    for (auto& base : SessionBases()) {
      auto dead = DeadSessions(base);
      for (auto& path : dead) std::printf("session %s\n", path.c_str());
      found_ += dead.size();
      if (options_.dry_run || dead.empty()) continue;
      RemoveDeadSessions(base, [](const std::string& id) { KillProcesses({id, -1, 0}, kKillMayTake); });
      auto left = DeadSessions(base);
      removed_ += dead.size() - std::min(dead.size(), left.size());
      for (auto& path : left) Complain("cannot remove all of " + path);
    }
  }

  void LookAt(const std::string& url) {
    auto store = store::OpenStore(url, options_.store);
    if (!store) return Complain(store.error().message);
    auto leftovers = FindLeftovers(**store, options_.search);
    if (!leftovers) return Complain(leftovers.error().message);
    for (auto& leftover : *leftovers) {
      ++found_;
      std::printf("%s\n", Describe((*store)->url(), leftover).c_str());
      if (options_.dry_run) continue;
      auto removed = RemoveLeftover(**store, leftover);
      removed_ += removed.ok();
      if (!removed) Complain(removed.error().message);
    }
  }

  void Complain(const std::string& message) {
    std::fflush(stdout);
    Say(message);
    failed_ = true;
  }

  const GcOptions& options_;
  size_t found_ = 0, removed_ = 0;
  bool failed_ = false;
};

}  // namespace

int CollectGarbage(int argc, char** argv) {
  GcOptions options;
  auto wrong = Parse({argv, argv + argc}, &options);
  if (wrong) {
    Say(*wrong + ": see elsewhere gc --help");
    return kExitUsage;
  }
  if (options.help) {
    std::fputs(kHelp, stdout);
    return std::fflush(stdout) == 0 ? 0 : 1;
  }
  options.search.now_ns =
      std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
  return Collector(options).Run();
}

}  // namespace elsewhere::runtime
