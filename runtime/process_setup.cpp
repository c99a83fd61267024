#include "runtime/process_setup.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <vector>

namespace elsewhere::runtime {

Result<std::map<std::string, std::string>> ParseArguments(int argc, char** argv,
                                                          const std::string& switches) {
  std::map<std::string, std::string> values;
  for (int i = 0; i < argc; ++i) {
    const std::string argument = argv[i];
    if (!argument.starts_with("--")) return Error{EINVAL, "unexpected argument '" + argument + "'"};
    const std::string name = argument.substr(2);
    if (switches.find(" " + name + " ") != std::string::npos) {
      values[name] = "1";
    } else if (i + 1 < argc) {
      values[name] = argv[++i];
    } else {
      return Error{EINVAL, argument + " needs a value"};
    }
  }
  return values;
}

FileOptions FileOptionsOf(const std::map<std::string, std::string>& arguments) {
  const auto value = [&](const char* name) {
    const auto found = arguments.find(name);
    return found == arguments.end() ? std::string() : found->second;
  };
  FileOptions options;
  options.maps = value("maps");
  options.endpoint = value("endpoint");
  options.cache = value("file-cache");
  options.write_back = !value("write-back").empty();
  if (const std::string size = value("cache-size"); !size.empty())
    options.cache_bytes = std::strtoull(size.c_str(), nullptr, 10);
  return options;
}

std::string TakeVariable(const char* name) {
  const char* found = std::getenv(name);
  std::string value = found == nullptr ? "" : found;
  unsetenv(name);
  return value;
}

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void StartLog(const std::string& path, const std::string& name, bool to_standard_error) {
  std::vector<spdlog::sink_ptr> sinks;
  try {
    sinks.push_back(std::make_shared<spdlog::sinks::basic_file_sink_mt>(path));
  } catch (const spdlog::spdlog_ex&) {
    // No log is no reason not to work.
  }
  if (to_standard_error) sinks.push_back(std::make_shared<spdlog::sinks::stderr_sink_mt>());
  auto logger = std::make_shared<spdlog::logger>(name, sinks.begin(), sinks.end());
  logger->flush_on(spdlog::level::info);
  logger->set_pattern("%H:%M:%S.%e elsewhere " + name + ": %v");
  spdlog::set_default_logger(logger);
}

std::string ProgramPath() {
  char path[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof path);
  return size > 0 ? std::string(path, static_cast<size_t>(size)) : std::string();
}

std::string RestorerPath() {
  const std::string program = ProgramPath();
  return program.substr(0, program.rfind('/')) + "/elsewhere-restorer";
}

uint64_t AvailableMemory() {
  std::ifstream file("/proc/meminfo");
  std::string name;
  uint64_t kilobytes = 0;
  std::string unit;
  while (file >> name >> kilobytes >> unit) {
    if (name == "MemAvailable:") return kilobytes * 1024;
  }
  return 0;
}

uint64_t PrivateStoreQuota(const std::string& directory) {
  struct statvfs room {};
  if (statvfs(directory.c_str(), &room) != 0) return AvailableMemory() / 2;
  return std::min<uint64_t>(room.f_bavail * room.f_frsize, AvailableMemory()) / 2;
}

}  // namespace elsewhere::runtime
