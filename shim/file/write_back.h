// WriteBack: what --write-back changes. A close returns when the content is in the agent's hands, and it is
// sent by and by; fsync still waits.
//
// Promises
//  - What a close has confirmed survives the death of the process: the ObjectFile, and with it the local
//  content, is kept until it is sent. It does not survive the agent, which Finish is there for: a session
//  ends when all is sent. An agent that is killed, or a machine that stops, loses what was not yet sent.
//  - A sending that failed is reported once by the next Close or Sync of the same file, which also tries
//  again, and by Finish, if it has not succeeded by then.
//  - No more than `unsent_bytes` wait: beyond, Close waits for others to be sent; when nothing is on its way
//  (the store is away), it sends its own and reports as without write-back.
//  - The order in which different files are sent is not kept.
//
// Thread-safety: all methods from any thread; all but Unsent may block.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "shim/file/object_file.h"
#include "shim/file/workers.h"

namespace elsewhere::file {

struct WriteBackLimits {
  uint64_t unsent_bytes = 1ull << 30;
  unsigned sent_together = 8;  // files
};

class WriteBack {
 public:
  explicit WriteBack(WriteBackLimits limits = {}) : limits_(limits), senders_(limits.sent_together) {}
  ~WriteBack() { Drain(); }

  Status Close(const std::shared_ptr<ObjectFile>& file);
  Status Sync(const std::shared_ptr<ObjectFile>& file);
  // Until nothing is on its way any more, as before a child's end is reported.
  void Drain();

  struct Failure {
    std::string key;
    Error error;
  };
  // The end of the session: Drain, what had failed once more, and what could not be sent even so.
  std::vector<Failure> Finish();

  uint64_t Unsent() const;  // bytes

 private:
  struct Entry {
    std::shared_ptr<ObjectFile> file{};
    uint64_t bytes = 0;
    bool sending = false, again = false;
    std::optional<Error> error{};
  };
  void Send(ObjectFile* key);
  std::optional<Error> TakeError(ObjectFile* key);

  const WriteBackLimits limits_;
  mutable std::mutex mutex_;
  std::condition_variable sent_;
  std::map<ObjectFile*, Entry> entries_;
  uint64_t unsent_ = 0;
  unsigned sending_ = 0;
  // Its own: a flush waits for tasks of the files' workers.
  Workers senders_;
};

}  // namespace elsewhere::file
