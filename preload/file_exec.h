// Programs that lie in a mapped directory: the kernel gets a copy in memory, a script's interpreter the
// script's own name. Works between vfork and exec: on the caller's stack, leaving nothing known of its
// descriptors.
#pragma once

#include <alloca.h>
#include <errno.h>
#include <unistd.h>

#include <cstddef>

#include "preload/files.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

struct MappedProgram {
  int memory = -1;      // of a binary: a close-on-exec descriptor of its copy
  char path[64] = {};   // of that copy
  char line[256] = {};  // of a script: its first line, taken apart by the two below
  const char* interpreter = nullptr;
  const char* argument = nullptr;
  bool outside = false;              // links lead out of the map:
  char place[abi::kFilePathSize]{};  // to here
};
// A close-on-exec descriptor of a copy of a file that is wholly here; or -1 with errno.
int CopyInMemory(int fd);
// 0; or -1 with errno.
int PrepareProgram(const char* path, MappedProgram* program);
// The same of an open file.
int PrepareProgram(int fd, MappedProgram* program);

inline constexpr int kMostInterpreters = 5;  // as the kernel has it

template <class Run>
int WithProgram(const char* path, char* const* arguments, Run run, int depth = 0);

// Calls `run(path, arguments)` with what has to be executed for a program that `path` names.
template <class Run>
int RunPrepared(const MappedProgram& program, const char* path, char* const* arguments, Run run, int depth) {
  if (program.outside) return run(static_cast<const char*>(program.place), arguments);
  if (program.interpreter == nullptr) {
    const int result = run(static_cast<const char*>(program.path), arguments);
    raw::Close(program.memory);
    return result;
  }
  size_t count = 0;
  while (arguments != nullptr && arguments[count] != nullptr) ++count;
  auto** all = static_cast<char**>(alloca((count + 4) * sizeof(char*)));
  size_t used = 0;
  all[used++] = const_cast<char*>(program.interpreter);
  if (program.argument != nullptr) all[used++] = const_cast<char*>(program.argument);
  all[used++] = const_cast<char*>(path);
  for (size_t i = 1; i < count; ++i) all[used++] = arguments[i];
  all[used] = nullptr;
  return WithProgram(program.interpreter, static_cast<char* const*>(all), run, depth + 1);
}

// The same for any path, which is executed itself where it is not mapped. -1 with errno where it cannot be
// executed.
template <class Run>
int WithProgram(const char* path, char* const* arguments, Run run, int depth) {
  MappedPath at;
  if (!HasMaps() || !FindMapped(AT_FDCWD, path, &at)) return run(path, arguments);
  if (depth > kMostInterpreters) {
    errno = ELOOP;
    return -1;
  }
  MappedProgram program;
  if (PrepareProgram(path, &program) != 0) return -1;
  return RunPrepared(program, path, arguments, run, depth);
}

}  // namespace elsewhere::preload
