#include "shim/file/caller.h"

#include <algorithm>

namespace elsewhere::file {
namespace {

thread_local const Caller* current = nullptr;

}  // namespace

bool Caller::in_group(gid_t group) const {
  return group == gid || std::find(groups.begin(), groups.end(), group) != groups.end();
}

ActingAs::ActingAs(const Caller& caller) : before_(current) {
  current = &caller;
}
ActingAs::~ActingAs() {
  current = before_;
}
const Caller* ActingAs::Current() {
  return current;
}

}  // namespace elsewhere::file
