#include "shim/file/path_rules.h"

#include <algorithm>

namespace elsewhere::file {
namespace {

bool LiesIn(std::string_view path, std::string_view directory) {
  return path == directory || directory.empty() ||
         (path.starts_with(directory) && path.size() > directory.size() && path[directory.size()] == '/');
}

}  // namespace

std::string Normalize(std::string_view directory, std::string_view path) {
  std::string whole =
      path.starts_with('/') ? std::string(path) : std::string(directory) + "/" + std::string(path);
  std::string out;
  for (size_t at = 0; at < whole.size();) {
    size_t end = std::min(whole.find('/', at), whole.size());
    std::string_view part(whole.data() + at, end - at);
    if (part == "..") {
      out.resize(out.empty() ? 0 : out.rfind('/'));
    } else if (!part.empty() && part != ".") {
      out += "/" + std::string(part);
    }
    at = end + 1;
  }
  return out.empty() ? "/" : out;
}

Result<PathRule> ParsePathRule(std::string_view text) {
  auto wrong = [&](std::string_view why) {
    return Error{EINVAL, "map " + std::string(text) + ": " + std::string(why) +
                             "; write /directory=s3://bucket/prefix[:ro][:plain]"};
  };
  size_t equals = text.find('=');
  if (equals == text.npos) return wrong("there is no '='");
  PathRule rule{std::string(text.substr(0, equals)), std::string(text.substr(equals + 1)), false};
  if (!rule.directory.starts_with('/')) return wrong("the directory must be absolute");
  rule.directory = Normalize("/", rule.directory);
  if (rule.directory == "/") return wrong("the root directory cannot be mapped");
  for (bool more = true; more;) {
    more = false;
    for (auto [option, meant] : {std::pair(":ro", &rule.read_only), std::pair(":plain", &rule.plain)}) {
      if (!rule.url.ends_with(option)) continue;
      *meant = more = true;
      rule.url.resize(rule.url.size() - std::string_view(option).size());
    }
  }
  if (!rule.url.starts_with("s3://") && !rule.url.starts_with("dir:"))
    return wrong("this is no URL of a store");
  return rule;
}

Result<PathRules> PathRules::Parse(const std::vector<std::string>& maps) {
  PathRules rules;
  for (auto& map : maps) {
    auto rule = ParsePathRule(map);
    if (!rule) return rule.error();
    for (auto& other : rules.rules_)
      if (other.directory == rule->directory)
        return Error{EINVAL, "map " + map + ": " + other.directory + " is mapped twice"};
    rules.rules_.push_back(std::move(*rule));
  }
  std::stable_sort(rules.rules_.begin(), rules.rules_.end(),
                   [](auto& a, auto& b) { return a.directory.size() > b.directory.size(); });
  return rules;
}

std::optional<MappedPath> PathRules::Find(std::string_view path) const {
  for (size_t i = 0; i < rules_.size(); ++i) {
    auto& directory = rules_[i].directory;
    if (LiesIn(path, directory))
      return MappedPath{i,
                        path.size() > directory.size() ? std::string(path.substr(directory.size() + 1)) : ""};
  }
  return std::nullopt;
}

std::vector<std::string> PathRules::MappedNamesIn(std::string_view directory) const {
  std::vector<std::string> names;
  std::string_view base = directory == "/" ? "" : directory;
  for (auto& rule : rules_) {
    if (!LiesIn(rule.directory, base) || rule.directory.size() <= base.size() + 1) continue;
    std::string_view rest = std::string_view(rule.directory).substr(base.size() + 1);
    std::string name(rest.substr(0, rest.find('/')));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace elsewhere::file
