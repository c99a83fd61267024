// posix_spawn's file actions where they name mapped paths: libc carries them out in the child without a hook.
#pragma once

#include <spawn.h>

#include <cstddef>

namespace elsewhere::preload {

// A copy of `actions` in which an open of a mapped path is a dup2 of a descriptor that was opened here, and a
// mapped directory that is entered is the one in the host's tree. Not for more than kMost actions, which stay
// what they are; relative paths behind a change of the directory too.
class MappedActions {
 public:
  explicit MappedActions(const posix_spawn_file_actions_t* actions);
  ~MappedActions();
  MappedActions(const MappedActions&) = delete;
  MappedActions& operator=(const MappedActions&) = delete;

  int error() const { return error_; }  // what posix_spawn returns
  const posix_spawn_file_actions_t* get() const { return changed_ ? &copy_ : actions_; }

 private:
  // As glibc has them since 2.2 (posix/spawn_int.h); what a list is made of is no part of its headers.
  struct Action {
    int tag;
    union {
      struct {
        int fd;
        int target;
      } duplicate;
      struct {
        int fd;
        char* path;
        int flags;
        mode_t mode;
      } open;
      struct {
        char* path;
      } enter;
    };
  };
  enum Tag { kClose = 0, kDuplicate = 1, kOpen = 2, kEnter = 3, kEnterDescriptor = 4 };
  static constexpr int kMost = 32;

  bool Open(Action* action);
  bool Enter(Action* action);

  const posix_spawn_file_actions_t* const actions_;
  posix_spawn_file_actions_t copy_{};
  Action list_[kMost];
  char places_[4096];  // in the tree
  size_t places_used_ = 0;
  int opened_[kMost];
  int opened_count_ = 0, error_ = 0;
  bool changed_ = false;
};

}  // namespace elsewhere::preload
