// The resident restorer of a worker: a process that is nothing but elsewhere-restorer, asked over a socket to
// fork and become somebody (shim/wire/restore_request.h).
//
// Requests are answered in order: kForked, then kEntered or kFailed. The child is the agent's (CLONE_PARENT):
// its end is seen by waiting for it. The zygote dies with the agent's thread; when it dies alone, `on_lost`
// is told. Thread-safety: one loop. Ownership: descriptors of a request stay the caller's.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/event_loop.h"
#include "shim/store/unique_fd.h"
#include "shim/wire/restore_request.h"
#include "shim/wire/result.h"

namespace elsewhere::runtime {

class Zygote {
 public:
  using Report = std::function<void(const restore::RestoreReport&)>;
  static Result<std::unique_ptr<Zygote>> Start(EventLoop& loop, const std::string& program, Report on_report,
                                               std::function<void()> on_lost);
  ~Zygote();

  // Sends the request with all its descriptors; `request.descriptor_count` is set here. Blocks while the
  // zygote's queue is full, which is as long as it takes to fork. Before the last one, without which nothing
  // begins, `others_sent` is called: who closes the others then is never the last to have one.
  Status Restore(restore::RestoreRequest request, const std::vector<int>& descriptors,
                 const std::function<void()>& others_sent);
  // Takes the reports that are there now.
  void ReadReports();
  pid_t pid() const { return pid_; }

 private:
  Zygote(EventLoop& loop, Report on_report, std::function<void()> on_lost)
      : loop_(loop), on_report_(std::move(on_report)), on_lost_(std::move(on_lost)) {}
  Status Send(const void* bytes, size_t size, const int* descriptors, size_t count);

  EventLoop& loop_;
  Report on_report_;
  std::function<void()> on_lost_;
  store::UniqueFd socket_;
  pid_t pid_ = -1;
};

}  // namespace elsewhere::runtime
