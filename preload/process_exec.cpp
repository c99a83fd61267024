// Programs to come: exec and posix_spawn keep the session through any environment, and programs that cannot
// be followed are named in the summary.
//
// A process execs on the host where it is. The functions below run between vfork and exec too: they work on
// their own stack, and speak to the agent only where the memory is their own.
#include <alloca.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <paths.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/agent.h"
#include "preload/children.h"
#include "preload/environment.h"
#include "preload/file_exec.h"
#include "preload/fork.h"
#include "preload/hooks.h"
#include "preload/readable.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/shared_file.h"
#include "preload/spawn_actions.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr size_t kHeadSize = 1024;

// ---- Programs that the preload does not reach
// --------------------------------------------------------------------------

bool HasInterpreter(const unsigned char* head, size_t size) {
  Elf64_Ehdr header;
  memcpy(&header, head, sizeof header);
  if (header.e_phentsize != sizeof(Elf64_Phdr)) return true;  // strange: the kernel will say
  for (size_t i = 0; i < header.e_phnum; ++i) {
    const size_t at = header.e_phoff + i * sizeof(Elf64_Phdr);
    if (at > size || size - at < sizeof(Elf64_Phdr)) return true;  // not in what was read: assume the usual
    Elf64_Phdr segment;
    memcpy(&segment, head + at, sizeof segment);
    if (segment.p_type == PT_INTERP) return true;
  }
  return false;
}

bool GivesPrivilege(const struct stat& status) {
  const bool set_user = (status.st_mode & S_ISUID) != 0 && status.st_uid != raw::Syscall(SYS_geteuid);
  const bool set_group = (status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0 &&
                         status.st_gid != raw::Syscall(SYS_getegid);
  return set_user || set_group;
}

// Why the loader will not put the preload into this program; nullptr: it will, or there is no such program.
const char* WhyNotFollowed(const char* path, int script_depth = 0) {
  const long fd =
      raw::Syscall(SYS_openat, AT_FDCWD, raw::Address(path), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return nullptr;
  struct stat status = {};
  alignas(8) unsigned char head[kHeadSize];
  const long status_result = raw::Syscall(SYS_fstat, fd, raw::Address(&status));
  const long size = status_result == 0 && S_ISREG(status.st_mode)
                        ? raw::Read(static_cast<int>(fd), head, kHeadSize - 1)
                        : -1;
  raw::Close(static_cast<int>(fd));
  if (size < 2) return nullptr;
  if (head[0] == '#' && head[1] == '!' && script_depth < 4) {
    head[size] = '\0';
    char* interpreter = reinterpret_cast<char*>(head) + 2;
    interpreter += strspn(interpreter, " \t");
    interpreter[strcspn(interpreter, " \t\n")] = '\0';
    return WhyNotFollowed(interpreter, script_depth + 1);
  }
  if (size < static_cast<long>(sizeof(Elf64_Ehdr)) || memcmp(head, ELFMAG, SELFMAG) != 0) return nullptr;
  if (GivesPrivilege(status)) return "set-user-ID or set-group-ID program";
  if (head[EI_CLASS] != ELFCLASS64) return "32-bit program";
  return HasInterpreter(head, static_cast<size_t>(size)) ? nullptr : "statically linked program";
}

// Before an exec or spawn of `path`.
void NoteUnfollowed(const char* path) {
  if (!self.in_session || path == nullptr) return;
  const int before = errno;
  const char* why = WhyNotFollowed(path);
  if (why != nullptr) {
    if (OnWorker()) TakeOffsets();
    char line[abi::kSlotPayload];
    const size_t why_length = strlen(why), path_length = strnlen(path, sizeof line - why_length - 32);
    char* end = static_cast<char*>(mempcpy(line, path, path_length));
    stpcpy(stpcpy(end, " runs natively: "), why);
    NoteForSummary(line);
  }
  errno = before;
}

// Calls `visit(path)` with what `file` is in each directory of PATH, until it says true.
template <class Visit>
void EachInPath(const char* file, Visit visit) {
  const char* path = FindVariable(environ, "PATH");
  if (path == nullptr) path = "/bin:/usr/bin";
  char candidate[kPathSize];
  const size_t length = strlen(file);
  while (path != nullptr) {
    const size_t directory = strcspn(path, ":");
    if (directory + length + 2 <= sizeof candidate) {
      char* end = static_cast<char*>(mempcpy(candidate, path, directory));
      if (directory > 0) *end++ = '/';
      memcpy(end, file, length + 1);
      if (visit(candidate)) return;
    }
    path = path[directory] == ':' ? path + directory + 1 : nullptr;
  }
}

// The file that execvp(file) would run, as far as its summary line needs it.
void NoteUnfollowedInPath(const char* file) {
  if (!self.in_session || file == nullptr || strchr(file, '/') != nullptr) return NoteUnfollowed(file);
  EachInPath(file, [](const char* candidate) {
    if (raw::Syscall(SYS_access, raw::Address(candidate), X_OK) != 0) return false;
    NoteUnfollowed(candidate);
    return true;
  });
}

// ---- A PATH that leads into mapped directories, which libc would not see
// ---------------------------------------------------------------

bool PathIsMapped() {
  bool mapped = false;
  if (HasMaps()) {
    EachInPath("x", [&](const char* candidate) {
      MappedPath at;
      return mapped = FindMapped(AT_FDCWD, candidate, &at);
    });
  }
  return mapped;
}

// What libc's execvp makes of a file that the kernel does not execute: a script of the shell.
int ExecuteOrInterpret(const char* path, char* const* arguments, char* const* environment) {
  hooks::execve(path, arguments, environment);
  if (errno != ENOEXEC) return -1;
  size_t count = 0;
  while (arguments != nullptr && arguments[count] != nullptr) ++count;
  auto** script = static_cast<char**>(alloca((count + 3) * sizeof(char*)));
  size_t used = 0;
  script[used++] = const_cast<char*>(_PATH_BSHELL);
  script[used++] = const_cast<char*>(path);
  for (size_t i = 1; i < count; ++i) script[used++] = arguments[i];
  script[used] = nullptr;
  return hooks::execve(_PATH_BSHELL, script, environment);
}

int ExecuteInPath(const char* file, char* const* arguments, char* const* environment) {
  int error = ENOENT;
  EachInPath(file, [&](const char* candidate) {
    ExecuteOrInterpret(candidate, arguments, environment);
    const bool goes_on = errno == EACCES || errno == ENOENT || errno == ESTALE || errno == ENOTDIR ||
                         errno == ENODEV || errno == ETIMEDOUT;
    if (!goes_on || errno == EACCES) error = errno;
    return !goes_on;
  });
  errno = error;
  return -1;
}

// The program that would be spawned; false: there is none.
bool FindInPath(const char* file, char* found) {
  *found = '\0';
  EachInPath(file, [&](const char* candidate) {
    struct stat status;
    if (hooks::fstatat(AT_FDCWD, candidate, &status, 0) != 0 || !S_ISREG(status.st_mode)) return false;
    if (hooks::faccessat(AT_FDCWD, candidate, X_OK, 0) != 0) return false;
    stpcpy(found, candidate);
    return true;
  });
  return *found != '\0';
}

// ---- posix_spawn
// -----------------------------------------------------------------------------------------------------

// On a worker the child needs a pid of the session before anybody hears of it.
int RegisterSpawned(pid_t kernel_pid, pid_t* child) {
  const int before = errno;
  const pid_t session_pid = RegisterNestedChild(kernel_pid);
  const int error = errno;
  errno = before;
  if (session_pid <= 0) return error;
  if (child != nullptr) *child = session_pid;
  return 0;
}

template <class Spawn>
int SpawnWith(pid_t* child, char* const* environment, Spawn spawn) {
  pid_t kernel_pid = 0;
  const int error =
      WithSessionEnvironment(environment, [&](char* const* ours) { return spawn(&kernel_pid, ours); });
  if (error != 0) return error;
  if (OnWorker()) return RegisterSpawned(kernel_pid, child);
  if (child != nullptr) *child = kernel_pid;
  return 0;
}

// ---- execl and its like
// ------------------------------------------------------------------------------------------------

// Of a list that begins with `first` and ends with a null pointer.
size_t CountArguments(const char* first, va_list rest) {
  size_t count = 0;
  for (const char* argument = first; argument != nullptr; argument = va_arg(rest, const char*)) ++count;
  return count;
}

}  // namespace

namespace hooks {

int execve(const char* path, char* const* arguments, char* const* environment) {
  const auto there = [](char* const* all) { return all == nullptr || IsReadable(all, sizeof *all); };
  if (!IsReadable(path) || !there(arguments) || !there(environment))
    return real::execve(path, arguments, environment);
  FlushFiles();
  return WithProgram(path, arguments, [&](const char* program, char* const* given) {
    NoteUnfollowed(program);
    return WithSessionEnvironment(environment,
                                  [&](char* const* ours) { return real::execve(program, given, ours); });
  });
}

int execv(const char* path, char* const* arguments) {
  return hooks::execve(path, arguments, environ);
}

int execvpe(const char* file, char* const* arguments, char* const* environment) {
  if (HasMaps() && strchr(file, '/') != nullptr) return ExecuteOrInterpret(file, arguments, environment);
  if (*file != '\0' && PathIsMapped()) return ExecuteInPath(file, arguments, environment);
  FlushFiles();
  NoteUnfollowedInPath(file);
  return WithSessionEnvironment(environment,
                                [&](char* const* ours) { return real::execvpe(file, arguments, ours); });
}

int execvp(const char* file, char* const* arguments) {
  return hooks::execvpe(file, arguments, environ);
}

int fexecve(int fd, char* const* arguments, char* const* environment) {
  FlushFiles();
  if (IsMappedFile(fd)) {
    MappedProgram program;
    if (PrepareProgram(fd, &program) != 0) return -1;
    char name[32];
    snprintf(name, sizeof name, "/dev/fd/%d", fd);
    const auto run = [&](const char* path, char* const* given) {
      return WithSessionEnvironment(environment,
                                    [&](char* const* ours) { return real::execve(path, given, ours); });
    };
    return RunPrepared(program, name, arguments, run, 0);
  }
  return WithSessionEnvironment(environment,
                                [&](char* const* ours) { return real::fexecve(fd, arguments, ours); });
}

int execveat(int directory, const char* path, char* const* arguments, char* const* environment, int flags) {
  if (HasMaps() && flags == AT_EMPTY_PATH && *path == '\0')
    return hooks::fexecve(directory, arguments, environment);
  if (HasMaps() && flags == 0 && (directory == AT_FDCWD || *path == '/'))
    return hooks::execve(path, arguments, environment);
  return WithSessionEnvironment(environment, [&](char* const* ours) {
    return real::execveat(directory, path, arguments, ours, flags);
  });
}

int posix_spawn(pid_t* child, const char* path, const posix_spawn_file_actions_t* actions,
                const posix_spawnattr_t* attributes, char* const* arguments, char* const* environment) {
  const int before = errno;
  const MappedActions mapped(actions);
  if (mapped.error() != 0) return mapped.error();
  int error = -1;
  const int prepared = WithProgram(path, arguments, [&](const char* program, char* const* given) {
    NoteUnfollowed(program);
    error = SpawnWith(child, environment, [&](pid_t* pid, char* const* ours) {
      return real::posix_spawn(pid, program, mapped.get(), attributes, given, ours);
    });
    return 0;
  });
  if (prepared != 0) error = errno;
  errno = before;
  return error;
}

int posix_spawnp(pid_t* child, const char* file, const posix_spawn_file_actions_t* actions,
                 const posix_spawnattr_t* attributes, char* const* arguments, char* const* environment) {
  if (HasMaps() && strchr(file, '/') != nullptr)
    return hooks::posix_spawn(child, file, actions, attributes, arguments, environment);
  if (char found[kPathSize]; *file != '\0' && PathIsMapped() && FindInPath(file, found))
    return hooks::posix_spawn(child, found, actions, attributes, arguments, environment);
  const MappedActions mapped(actions);
  if (mapped.error() != 0) return mapped.error();
  NoteUnfollowedInPath(file);
  return SpawnWith(child, environment, [&](pid_t* pid, char* const* ours) {
    return real::posix_spawnp(pid, file, mapped.get(), attributes, arguments, ours);
  });
}

}  // namespace hooks

// The list of the variadic ones becomes an array on the stack, its first element named apart as POSIX has it.
#define COLLECT(first, arguments)                                              \
  va_list list;                                                                \
  va_start(list, first);                                                       \
  const size_t count = CountArguments(first, list);                            \
  va_end(list);                                                                \
  auto** arguments = static_cast<char**>(alloca((count + 1) * sizeof(char*))); \
  va_start(list, first);                                                       \
  arguments[0] = const_cast<char*>(first);                                     \
  for (size_t i = 1; i <= count; ++i) arguments[i] = va_arg(list, char*)

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int wrapper_execl(const char* path, const char* first, ...) __asm__("execl");
int wrapper_execl(const char* path, const char* first, ...) {
  COLLECT(first, arguments);
  va_end(list);
  return hooks::execve(path, arguments, environ);
}

EXPORTED int wrapper_execlp(const char* file, const char* first, ...) __asm__("execlp");
int wrapper_execlp(const char* file, const char* first, ...) {
  COLLECT(first, arguments);
  va_end(list);
  return hooks::execvpe(file, arguments, environ);
}

EXPORTED int wrapper_execle(const char* path, const char* first, ...) __asm__("execle");
int wrapper_execle(const char* path, const char* first, ...) {
  COLLECT(first, arguments);
  char* const* environment = va_arg(list, char* const*);
  va_end(list);
  return hooks::execve(path, arguments, environment);
}

}  // namespace elsewhere::preload
