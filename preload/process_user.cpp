// Processes that become another user's.
//
// Before: what root alone may open is opened (the agent of mapped files). After: on a worker the deputy
// becomes the same user's, because what it does for the process (signals, message queues, reading /proc) is
// permitted or not as natively. Between vfork and exec nothing is told: the memory, and with it the deputy,
// is the parent's.
#include <errno.h>
#include <grp.h>
#include <unistd.h>

#include "preload/files.h"
#include "preload/home_call.h"
#include "preload/hooks.h"
#include "preload/kernel_call.h"
#include "preload/real.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr int kMostGroups = 1024;  // of more, the deputy keeps those it has

void TellGroups() {
  gid_t groups[kMostGroups];
  const long count = raw::Syscall(SYS_getgroups, kMostGroups, raw::Address(groups));
  if (raw::Failed(count)) return;
  KernelCall(SYS_setgroups).Number(count).In(groups, static_cast<size_t>(count) * sizeof(gid_t)).Make();
}

void TellIds() {
  gid_t group[3];
  uid_t user[3];
  raw::Syscall(SYS_getresgid, raw::Address(&group[0]), raw::Address(&group[1]), raw::Address(&group[2]));
  raw::Syscall(SYS_getresuid, raw::Address(&user[0]), raw::Address(&user[1]), raw::Address(&user[2]));
  // Who becomes root may do the rest then, who was root does it before.
  const bool becomes_root = user[1] == 0;
  if (becomes_root) HomeCall(SYS_setresuid, {user[0], user[1], user[2]});
  HomeCall(SYS_setresgid, {group[0], group[1], group[2]});
  if (!becomes_root) HomeCall(SYS_setresuid, {user[0], user[1], user[2]});
}

// `result` of a call that changed who this process is.
template <class Tell>
int Told(int result, Tell tell) {
  if (result != 0 || !OnWorker() || InVforkChild()) return result;
  const int before = errno;
  tell();
  errno = before;
  return result;
}

}  // namespace

namespace hooks {

int setuid(uid_t user) {
  KeepFileConnection();
  return Told(real::setuid(user), TellIds);
}
int seteuid(uid_t user) {
  KeepFileConnection();
  return Told(real::seteuid(user), TellIds);
}
int setreuid(uid_t user, uid_t effective) {
  KeepFileConnection();
  return Told(real::setreuid(user, effective), TellIds);
}
int setresuid(uid_t user, uid_t effective, uid_t saved) {
  KeepFileConnection();
  return Told(real::setresuid(user, effective, saved), TellIds);
}
int setgid(gid_t group) {
  return Told(real::setgid(group), TellIds);
}
int setegid(gid_t group) {
  return Told(real::setegid(group), TellIds);
}
int setregid(gid_t group, gid_t effective) {
  return Told(real::setregid(group, effective), TellIds);
}
int setresgid(gid_t group, gid_t effective, gid_t saved) {
  return Told(real::setresgid(group, effective, saved), TellIds);
}
int setgroups(size_t count, const gid_t* groups) {
  return Told(real::setgroups(count, groups), TellGroups);
}
int initgroups(const char* user, gid_t group) {
  return Told(real::initgroups(user, group), TellGroups);
}

}  // namespace hooks
}  // namespace elsewhere::preload
