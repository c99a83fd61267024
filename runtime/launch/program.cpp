#include "runtime/launch/program.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <sstream>
#include <vector>

namespace elsewhere::runtime {
namespace {

constexpr int kMostInterpreters = 4;  // as execve(2)
constexpr size_t kHeadSize = 4096;

struct Candidate {
  std::string path;
  int error = 0;       // 0: can be executed
  bool there = false;  // a file that is no directory has this name
};

Candidate Inspect(std::string path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return {std::move(path), errno, false};
  if (S_ISDIR(status.st_mode)) return {std::move(path), EISDIR, false};
  if (!S_ISREG(status.st_mode) || access(path.c_str(), X_OK) != 0) return {std::move(path), EACCES, true};
  return {std::move(path), 0, true};
}

// The first that can be executed; else the first that is there; else nothing.
Candidate Search(const std::string& name, const char* search_path) {
  Candidate best{name, ENOENT, false};
  std::istringstream directories(search_path == nullptr ? "/bin:/usr/bin" : search_path);
  for (std::string directory; std::getline(directories, directory, ':');) {
    Candidate candidate = Inspect((directory.empty() ? "." : directory) + "/" + name);
    if (candidate.error == 0) return candidate;
    if (!best.there && candidate.there) best = candidate;
  }
  return best;
}

FoundProgram Fail(int status, std::string message) {
  FoundProgram found;
  found.ok = false;
  found.error = {status, std::move(message)};
  return found;
}

std::optional<std::vector<char>> ReadHead(const std::string& path) {
  int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return std::nullopt;
  std::vector<char> head(kHeadSize);
  ssize_t size = read(file, head.data(), head.size());
  close(file);
  if (size < 0) return std::nullopt;
  head.resize(static_cast<size_t>(size));
  return head;
}

// "#! /path/to/interpreter argument" -> the path.
std::optional<std::string> InterpreterOf(const std::vector<char>& head) {
  if (head.size() < 3 || head[0] != '#' || head[1] != '!') return std::nullopt;
  std::string line(head.begin() + 2, std::find(head.begin() + 2, head.end(), '\n'));
  size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string::npos) return std::nullopt;
  return line.substr(begin, line.find_first_of(" \t", begin) - begin);
}

std::string ReasonInElf(const std::vector<char>& head) {
  if (head.size() < sizeof(Elf64_Ehdr) || std::memcmp(head.data(), ELFMAG, SELFMAG) != 0)
    return "";  // execvp runs it by /bin/sh
  Elf64_Ehdr header;
  std::memcpy(&header, head.data(), sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64)
    return "is not a 64-bit x86-64 program";
  for (size_t index = 0; index < header.e_phnum; ++index) {
    size_t offset = header.e_phoff + index * header.e_phentsize;
    if (offset + sizeof(Elf64_Phdr) > head.size()) return "";  // unusual: let the loader decide
    Elf64_Phdr segment;
    std::memcpy(&segment, head.data() + offset, sizeof segment);
    if (segment.p_type == PT_INTERP) return "";
  }
  return "is statically linked";
}

}  // namespace

FoundProgram FindProgram(const std::string& name, const char* search_path) {
  bool has_slash = name.find('/') != std::string::npos;
  Candidate candidate = has_slash      ? Inspect(name)
                        : name.empty() ? Candidate{name, ENOENT, false}
                                       : Search(name, search_path);
  const std::string quoted = "'" + candidate.path + "'";
  switch (candidate.error) {
    case 0:
      break;
    case EISDIR:
      return Fail(kExitNotExecutable, quoted + " is a directory: give a program");
    case EACCES:
      return Fail(kExitNotExecutable, quoted + " cannot be executed: check its permissions (chmod +x)");
    case ENOENT:
    case ENOTDIR:
      return Fail(kExitNotFound, quoted + (has_slash ? " was not found: check the path"
                                                     : " was not found in PATH: check the spelling"));
    default:
      return Fail(kExitNotExecutable, quoted + " cannot be executed: " + std::strerror(candidate.error));
  }
  FoundProgram found;
  found.program = {candidate.path, ReasonToStayAtHome(candidate.path)};
  return found;
}

std::string ReasonToStayAtHome(const std::string& path) {
  std::string file = path;
  for (int depth = 0; depth <= kMostInterpreters; ++depth) {
    struct stat status;
    if (stat(file.c_str(), &status) == 0) {
      bool other_user = (status.st_mode & S_ISUID) != 0 && status.st_uid != getuid();
      bool other_group =
          (status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0 && status.st_gid != getgid();
      if (other_user || other_group) return "is set-user-id or set-group-id";
    }
    if (geteuid() != 0 && getxattr(file.c_str(), "security.capability", nullptr, 0) > 0)
      return "has file capabilities";
    std::optional<std::vector<char>> head = ReadHead(file);
    if (!head) return "";
    std::optional<std::string> interpreter = InterpreterOf(*head);
    if (!interpreter) return ReasonInElf(*head);
    file = *interpreter;
  }
  return "";
}

}  // namespace elsewhere::runtime
