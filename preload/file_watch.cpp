// inotify on mapped paths. What is watched is what stands for the name in the host's tree: names change there
// as they do in the map, and the agent shows there what is stored and whose attributes change, by this host.
// So reads are not seen, and writes when they are stored: by a close or fsync.
#include <sys/inotify.h>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/real.h"

namespace elsewhere::preload::hooks {

int inotify_add_watch(int fd, const char* path, uint32_t mask) {
  return OnPath(
      AT_FDCWD, path,
      [&](const MappedPath& at, FileCall* call) {
        call->operation = abi::FileOperation::kWatch;
        call->arguments[0] = (mask & IN_DONT_FOLLOW) == 0 ? 1 : 0;
        return CallFile(at, call) < 0 ? -1 : real::inotify_add_watch(fd, call->answer.text, mask);
      },
      [&](int, const char* local) { return real::inotify_add_watch(fd, local, mask); });
}

}  // namespace elsewhere::preload::hooks
