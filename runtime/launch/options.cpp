#include "runtime/launch/options.h"

#include <charconv>
#include <optional>
#include <string_view>

#include "runtime/file/maps.h"

namespace elsewhere::runtime {
namespace {

enum class Argument { kNone, kRequired, kOptional };

// Sets one option; returns what is wrong with the value, or nothing.
using Setter = std::optional<std::string> (*)(Options&, const std::string& value);

struct OptionRow {
  const char* name;
  const char* twin;  // environment variable
  Argument argument;
  Setter set;
};

std::optional<std::string> SetWorkers(Options& options, const std::string& value) {
  uint32_t number = 0;
  auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (code != std::errc() || end != value.data() + value.size() || number < 1 || number > kMostWorkers)
    return "give a number from 1 to " + std::to_string(kMostWorkers);
  options.workers = number;
  return std::nullopt;
}

std::optional<std::string> SetRedis(Options& options, const std::string& value) {
  if (value.empty()) return "give a URL such as redis://:password@host:6379/0 or unix:///path";
  options.redis = value;
  return std::nullopt;
}

std::optional<std::string> SetStore(Options& options, const std::string& value) {
  if (value.empty()) return "give a directory as dir:/absolute/path";
  options.store = value;
  return std::nullopt;
}

// Each --map adds to the ones before; the variable has them all.
std::optional<std::string> SetMap(Options& options, const std::string& value) {
  const std::string together = options.maps.empty() ? value : options.maps + ";" + value;
  auto rules = ParseMaps(together);
  if (!rules) return rules.error().message;
  options.maps = together;
  return std::nullopt;
}

std::optional<std::string> SetEndpoint(Options& options, const std::string& value) {
  if (!value.starts_with("http://") && !value.starts_with("https://"))
    return "give a URL such as https://s3.example.org:9000";
  options.endpoint = value;
  return std::nullopt;
}

// Bytes, or with one of the letters that mean powers of 1024.
std::optional<std::string> SetCacheSize(Options& options, const std::string& value) {
  uint64_t number = 0;
  const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), number);
  const std::string unit(end, value.data() + value.size());
  constexpr std::string_view kUnits = "KMGT";
  const size_t power = unit.size() == 1 ? kUnits.find(unit[0]) + 1 : 0;
  if (code != std::errc() || unit.size() > 1 || (unit.size() == 1 && power == 0) ||
      number > (UINT64_MAX >> (10 * power)))
    return "give a number of bytes, perhaps with K, M, G or T";
  options.cache_bytes = number << (10 * power);
  return std::nullopt;
}

std::optional<std::string> SetEngine(Options&, const std::string& value) {
  if (value != "local") return "the engine there is: local";
  return std::nullopt;
}

std::optional<std::string> SetFork(Options& options, const std::string& value) {
  if (value != "remote" && value != "local") return "give remote or local";
  options.fork_remote = value == "remote";
  return std::nullopt;
}

std::optional<std::string> SetMessages(Options& options, const std::string& value) {
  if (value != "direct" && value != "broker") return "give direct or broker";
  options.direct_messages = value == "direct";
  return std::nullopt;
}

std::optional<bool> ParseFlag(const std::string& value) {
  if (value.empty() || value == "1" || value == "yes" || value == "true") return true;
  if (value == "0" || value == "no" || value == "false") return false;
  return std::nullopt;
}

std::optional<std::string> SetStats(Options& options, const std::string& value) {
  std::optional<bool> flag = ParseFlag(value);
  if (!flag && value != "json") return "give nothing or json";
  options.stats = !flag ? Stats::kJson : *flag ? Stats::kHuman : Stats::kNone;
  return std::nullopt;
}

template <bool Options::*Member>
std::optional<std::string> SetFlag(Options& options, const std::string& value) {
  std::optional<bool> flag = ParseFlag(value);
  if (!flag) return "give 1 or 0";
  options.*Member = *flag;
  return std::nullopt;
}

constexpr OptionRow kOptions[] = {
    {"--workers", "ELSEWHERE_WORKERS", Argument::kRequired, SetWorkers},
    {"--redis", "ELSEWHERE_REDIS", Argument::kRequired, SetRedis},
    {"--store", "ELSEWHERE_STORE", Argument::kRequired, SetStore},
    {"--map", "ELSEWHERE_MAP", Argument::kRequired, SetMap},
    {"--endpoint", "ELSEWHERE_ENDPOINT", Argument::kRequired, SetEndpoint},
    {"--cache-size", "ELSEWHERE_CACHE_SIZE", Argument::kRequired, SetCacheSize},
    {"--write-back", "ELSEWHERE_WRITE_BACK", Argument::kNone, SetFlag<&Options::write_back>},
    {"--engine", "ELSEWHERE_ENGINE", Argument::kRequired, SetEngine},
    {"--fork", "ELSEWHERE_FORK", Argument::kRequired, SetFork},
    {"--messages", "ELSEWHERE_MESSAGES", Argument::kRequired, SetMessages},
    {"--stats", "ELSEWHERE_STATS", Argument::kOptional, SetStats},
    {"--colocate", "ELSEWHERE_COLOCATE", Argument::kNone, SetFlag<&Options::colocate>},
    {"--strict", "ELSEWHERE_STRICT", Argument::kNone, SetFlag<&Options::strict>},
    {"--verbose", "ELSEWHERE_VERBOSE", Argument::kNone, SetFlag<&Options::verbose>},
};

ParsedOptions Fail(std::string message) {
  ParsedOptions parsed;
  parsed.ok = false;
  parsed.error = {kExitUsage, std::move(message)};
  return parsed;
}

std::string BadValue(const std::string& what, const std::string& value, const std::string& advice) {
  return what + ": '" + value + "' is not possible: " + advice;
}

const OptionRow* FindOption(const std::string& name) {
  for (const OptionRow& row : kOptions)
    if (name == row.name) return &row;
  return nullptr;
}

// A twin that is set but empty counts as not set, as is usual for environment variables.
std::optional<std::string> ApplyEnvironment(Options& options, const Environment& environment) {
  for (const OptionRow& row : kOptions) {
    const char* value = environment(row.twin);
    if (value == nullptr || *value == '\0') continue;
    if (std::optional<std::string> advice = row.set(options, value))
      return BadValue(row.twin, value, *advice);
  }
  return std::nullopt;
}

// Options of `run` from `next` on; leaves `next` at COMMAND.
std::optional<std::string> ApplyArguments(Options& options, const std::vector<std::string>& arguments,
                                          size_t& next) {
  for (; next < arguments.size(); ++next) {
    const std::string& argument = arguments[next];
    if (argument == "--") {
      ++next;
      return std::nullopt;
    }
    if (argument.size() < 2 || argument[0] != '-') return std::nullopt;
    if (argument == "--help" || argument == "-h") {
      options.action = Action::kHelp;
      return std::nullopt;
    }
    size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const OptionRow* row = FindOption(name);
    if (row == nullptr) return "unknown option '" + argument + "': see elsewhere --help";
    std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    if (row->argument == Argument::kNone && equals != std::string::npos) return name + " takes no value";
    if (row->argument == Argument::kRequired && equals == std::string::npos) {
      if (++next == arguments.size()) return name + " needs a value: see elsewhere --help";
      value = arguments[next];
    }
    if (std::optional<std::string> advice = row->set(options, value)) return BadValue(name, value, *advice);
  }
  return std::nullopt;
}

}  // namespace

ParsedOptions ParseOptions(const std::vector<std::string>& arguments, const Environment& environment) {
  if (arguments.empty())
    return Fail("what is to be done? `elsewhere run COMMAND`, `elsewhere doctor` or `elsewhere --help`");
  ParsedOptions parsed;
  Options& options = parsed.options;
  const std::string& action = arguments[0];
  if (action == "--help" || action == "-h" || action == "help") {
    options.action = Action::kHelp;
    return parsed;
  }
  if (action == "--version") {
    options.action = Action::kVersion;
    return parsed;
  }
  if (action != "run" && action != "doctor")
    return Fail("'" + action + "' is not something to do: `elsewhere run COMMAND` or `elsewhere doctor`");
  options.action = action == "run" ? Action::kRun : Action::kDoctor;

  if (std::optional<std::string> wrong = ApplyEnvironment(options, environment)) return Fail(*wrong);
  size_t next = 1;
  if (std::optional<std::string> wrong = ApplyArguments(options, arguments, next)) return Fail(*wrong);
  if (options.action == Action::kRun) {
    options.command.assign(arguments.begin() + static_cast<ptrdiff_t>(next), arguments.end());
    if (options.command.empty())
      return Fail("no command given: elsewhere run [OPTIONS] [--] COMMAND [ARG...]");
  } else if (options.action == Action::kDoctor && next < arguments.size()) {
    return Fail("elsewhere doctor takes no argument such as '" + arguments[next] + "'");
  }
  return parsed;
}

const char* HelpText() {
  return R"(Usage: elsewhere run [OPTIONS] [--] COMMAND [ARG...]
       elsewhere doctor [OPTIONS]
       elsewhere gc [OPTIONS] [URL...]
       elsewhere --help | --version

run     executes COMMAND; the children that it forks run on workers.
doctor  says what of this machine, the broker and the store can be used, and what happens without the rest.
gc      removes what killed sessions and writers left, here and in stores: elsewhere gc --help.

  --workers N           workers to keep, 1 to 63 (default: number of cores)        ELSEWHERE_WORKERS
  --redis URL           use this Redis: redis://[user:password@]host[:port][/db],
                        rediss://... (TLS) or unix:///path (default: a private one) ELSEWHERE_REDIS
  --store URL           keep images here: dir:/absolute/path or s3://bucket/prefix
                        (default: private)                                          ELSEWHERE_STORE
  --map DIRECTORY=URL[:ro][:plain]
                        files below DIRECTORY are objects: s3://bucket/prefix or
                        dir:/absolute/path; :ro makes it read-only, :plain takes
                        modes and times from listings (no links, fast walks). May
                        be repeated, the variable separates several by ';'          ELSEWHERE_MAP
  --endpoint URL        the S3 server of the maps (default: AWS_ENDPOINT_URL, AWS)  ELSEWHERE_ENDPOINT
  --cache-size BYTES    what each host keeps of mapped files, K M G T allowed
                        (default: 10G)                                              ELSEWHERE_CACHE_SIZE
  --write-back          a close of a mapped file does not wait until it is stored;
                        fsync, a child that leaves and the end of COMMAND do        ELSEWHERE_WRITE_BACK
  --engine local        where workers come from                                     ELSEWHERE_ENGINE
  --fork remote|local   where forked children run (default: remote)                 ELSEWHERE_FORK
  --messages direct|broker  how home and workers of the same machine talk: over a
                        socket (default), or through Redis as others do             ELSEWHERE_MESSAGES
  --stats[=json]        say on standard error, at the end, what ran where           ELSEWHERE_STATS
  --colocate            children that share memory run on one host, home            ELSEWHERE_COLOCATE
  --strict              end with an error where something would run at home         ELSEWHERE_STRICT
  --verbose             say on standard error what happens                          ELSEWHERE_VERBOSE

Standard output, standard error and exit status are COMMAND's (128+N when signal N ended it). Other statuses:
2 wrong usage, 125 elsewhere itself failed, 126 COMMAND cannot be executed, 127 COMMAND was not found.
)";
}

}  // namespace elsewhere::runtime
