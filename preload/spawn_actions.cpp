#include "preload/spawn_actions.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "preload/files.h"
#include "preload/hooks.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

MappedActions::MappedActions(const posix_spawn_file_actions_t* actions) : actions_(actions) {
  if (!HasMaps() || actions == nullptr || actions->__used <= 0 || actions->__used > kMost) return;
  const int before = errno;
  memcpy(list_, actions->__actions, sizeof(Action) * static_cast<size_t>(actions->__used));
  bool moved = false;
  for (int i = 0; i < actions->__used && error_ == 0; ++i) {
    Action& action = list_[i];
    const bool follows = !moved;
    if (action.tag == kEnter || action.tag == kEnterDescriptor) moved = true;
    if (action.tag != kOpen && action.tag != kEnter) continue;
    const char* path = action.tag == kOpen ? action.open.path : action.enter.path;
    if (!follows && *path != '/') continue;
    if (!(action.tag == kOpen ? Open(&action) : Enter(&action))) error_ = errno;
  }
  copy_ = *actions;
  copy_.__actions = reinterpret_cast<__spawn_action*>(list_);
  errno = before;
}

MappedActions::~MappedActions() {
  for (int i = 0; i < opened_count_; ++i) {
    SetKind(opened_[i], DescriptorKind::kNothing);
    raw::Close(opened_[i]);
  }
}

bool MappedActions::Open(Action* action) {
  const int fd = OpenIfMapped(AT_FDCWD, action->open.path, action->open.flags | O_CLOEXEC, action->open.mode);
  if (fd == -2) return true;
  if (fd < 0) return false;
  // Out of the way of the numbers that the list speaks of.
  const long high = raw::Syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 512);
  const int target = action->open.fd;
  SetKind(fd, DescriptorKind::kNothing);
  raw::Close(fd);
  if (raw::Failed(high)) {
    errno = EMFILE;
    return false;
  }
  opened_[opened_count_++] = static_cast<int>(high);
  action->tag = kDuplicate;
  action->duplicate.fd = static_cast<int>(high);
  action->duplicate.target = target;
  changed_ = true;
  return true;
}

bool MappedActions::Enter(Action* action) {
  MappedPath at;
  if (!FindMapped(AT_FDCWD, action->enter.path, &at)) return true;
  FileCall call;
  call.operation = abi::FileOperation::kEnter;
  if (CallFile(at, &call) < 0) return false;
  if (call.answer.text_size >= sizeof places_ - places_used_) {
    errno = ENAMETOOLONG;
    return false;
  }
  action->enter.path = places_ + places_used_;
  memcpy(action->enter.path, call.answer.text, call.answer.text_size + 1);
  places_used_ += call.answer.text_size + 1;
  changed_ = true;
  return true;
}

}  // namespace elsewhere::preload
