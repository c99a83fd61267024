#include "shim/store/async_store.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <cstring>
#include <system_error>

namespace elsewhere::store {
namespace {

// Signals belong to the event loop's thread; the pool's threads are started with all of them blocked.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }

 private:
  sigset_t saved_;
};

}  // namespace

Result<std::unique_ptr<AsyncStore>> AsyncStore::Create(std::shared_ptr<ObjectStore> store, unsigned threads) {
  UniqueFd event_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_fd) return Error{errno, std::string("eventfd: ") + strerror(errno)};
  return std::unique_ptr<AsyncStore>(
      new AsyncStore(std::move(store), threads ? threads : 1, std::move(event_fd)));
}

AsyncStore::AsyncStore(std::shared_ptr<ObjectStore> store, unsigned threads, UniqueFd event_fd)
    : store_(std::move(store)), thread_limit_(threads), event_fd_(std::move(event_fd)) {}

AsyncStore::~AsyncStore() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    work_.clear();
  }
  store_->Interrupt();
  work_arrived_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void AsyncStore::Enqueue(std::function<void()> work) {
  std::unique_lock lock(mutex_);
  ++pending_;
  if (idle_ <= work_.size() && threads_.size() < thread_limit_ && !StartThread() && threads_.empty()) {
    lock.unlock();
    return work();  // there is nobody else
  }
  work_.push_back(std::move(work));
  work_arrived_.notify_one();
}

bool AsyncStore::StartThread() {
  BlockedSignals blocked;
  try {
    threads_.emplace_back([this] { Work(); });
    return true;
  } catch (const std::system_error&) {  // RLIMIT_NPROC: those that there are do it all
    return false;
  }
}

void AsyncStore::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    work_arrived_.wait(lock, [this] { return stopping_ || !work_.empty(); });
    --idle_;
    if (stopping_) return;
    auto work = std::move(work_.front());
    work_.pop_front();
    lock.unlock();
    work();
    work = nullptr;  // what it holds is freed outside the lock
    lock.lock();
  }
}

void AsyncStore::Complete(std::function<void()> completion) {
  std::lock_guard lock(mutex_);
  completions_.push_back(std::move(completion));
  // One wake-up per batch; the counter cannot overflow, so the write cannot fail.
  if (completions_.size() == 1) eventfd_write(event_fd_.get(), 1);
}

size_t AsyncStore::Drain() {
  std::vector<std::function<void()>> batch;
  {
    std::lock_guard lock(mutex_);
    eventfd_t count;
    eventfd_read(event_fd_.get(), &count);
    batch.swap(completions_);
    pending_ -= batch.size();
  }
  for (auto& completion : batch) completion();
  return batch.size();
}

size_t AsyncStore::pending() const {
  std::lock_guard lock(mutex_);
  return pending_;
}

void AsyncStore::Get(std::string key, GetOptions options, Done<Object> done) {
  Run<Object>([key = std::move(key),
               options = std::move(options)](ObjectStore& store) { return store.Get(key, options); },
              std::move(done));
}

void AsyncStore::Put(std::string key, std::string body, PutOptions options, Done<ObjectInfo> done) {
  Run<ObjectInfo>(
      [key = std::move(key), body = std::make_shared<std::string>(std::move(body)),
       options = std::move(options)](ObjectStore& store) { return store.Put(key, *body, options); },
      std::move(done));
}

void AsyncStore::Delete(std::string key, Done<Ok> done) {
  Run<Ok>([key = std::move(key)](ObjectStore& store) { return store.Delete(key); }, std::move(done));
}

void AsyncStore::DeletePrefix(std::string prefix, Done<uint64_t> done) {
  Run<uint64_t>([prefix = std::move(prefix)](ObjectStore& store) { return store.DeletePrefix(prefix); },
                std::move(done));
}

}  // namespace elsewhere::store
