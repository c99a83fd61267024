// The directory of one session: made, locked, removed; those of dead sessions found and removed.
//
// Rules. A session is alive while anybody holds a shared flock on its `lock` file; launcher and agent both
// do. Whoever gets that lock exclusively may remove the directory. A directory gets its final name only when
// it is locked, so no half-made one is ever taken for dead; half-made ones are removed when they are old.
// Thread-safety: none. Errors: one line that names the path.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "runtime/session.h"
#include "shim/wire/result.h"

namespace elsewhere::runtime {

class SessionDirectory {
 public:
  // Makes and locks the directory of session `id` (32 hexadecimal digits) below `base`.
  static Result<SessionDirectory> Make(const std::string& base, const std::string& id);

  SessionDirectory(SessionDirectory&& other) noexcept;
  SessionDirectory& operator=(SessionDirectory&&) = delete;
  ~SessionDirectory();  // releases the lock, keeps the directory

  const SessionLayout& layout() const { return layout_; }
  void Remove() const;

 private:
  SessionDirectory(std::string path, int lock) : layout_(std::move(path)), lock_(lock) {}

  SessionLayout layout_;
  int lock_;
};

// What this process makes from now on its owner may use, whatever umask it was started with; returns that
// one.
mode_t LetOwnerUseFiles();

// 32 random hexadecimal digits.
std::string MakeSessionId();

// Where session directories go, best first: /dev/shm when it is a writable tmpfs with room, $XDG_RUNTIME_DIR,
// $TMPDIR, /tmp. Only those that exist, can be written, and leave room for the names of sockets.
std::vector<std::string> SessionBases();

// Paths of what RemoveDeadSessions would remove.
std::vector<std::string> DeadSessions(const std::string& base);

// Removes what dead sessions of this user left below `base`. `end_processes` is called with the id of each
// before its directory goes.
void RemoveDeadSessions(const std::string& base,
                        const std::function<void(const std::string& id)>& end_processes);

// Removes a directory with everything in it; what cannot be removed stays.
void RemoveTree(const std::string& path);

}  // namespace elsewhere::runtime
