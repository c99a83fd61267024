// Whose permissions a call of FileSystem is checked with: those of the process that it is done for, as a file
// server's thread has them by setfsuid(2). Without one it is FileSystemOptions' user.
//
// Thread-safety: a Caller is in force on the thread that made the ActingAs, until that goes; they nest.
#pragma once

#include <sys/types.h>

#include <vector>

namespace elsewhere::file {

struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups{};  // supplementary ones

  bool is_root() const { return uid == 0; }
  bool in_group(gid_t group) const;
};

class ActingAs {
 public:
  explicit ActingAs(const Caller& caller);  // referred to, not copied
  ~ActingAs();
  ActingAs(const ActingAs&) = delete;
  ActingAs& operator=(const ActingAs&) = delete;

  // Nothing: nobody in particular.
  static const Caller* Current();

 private:
  const Caller* const before_;
};

}  // namespace elsewhere::file
