#include "runtime/ipc/semaphore_news.h"

#include <utility>
#include <vector>

namespace elsewhere::runtime {
namespace {

using Operation = wire::SemaphoreRequest::Operation;

bool IsSame(const wire::SemaphoreNow& one, const wire::SemaphoreNow& other) {
  return one.known == other.known && one.posts == other.posts;
}

}  // namespace

wire::SemaphoreNow SemaphoreNews::Tell(uint64_t object, HostId host) {
  const wire::SemaphoreNow now = look_(object, host);
  if (now.known != 0 || told_.contains(object)) told_[object][host] = {now, 0};
  return now;
}

void SemaphoreNews::Changed(uint64_t object) {
  const auto found = told_.find(object);
  if (found == told_.end()) return;
  bool waits = true;
  for (const auto& [host, told] : found->second) {
    const wire::SemaphoreNow now = look_(object, host);
    if (told.now.known == 0 || IsSame(now, told.now)) continue;
    untold_[host].insert(object);
    // While it knows of posts that are not in the count it takes that for none.
    if (now.posts == told.now.posts) waits = false;
  }
  if (waits || std::exchange(flushes_, true)) return;
  agent_.loop().Defer([this] { Flush(); });
}

void SemaphoreNews::Flush() {
  flushes_ = false;
  std::vector<HostId> hosts;
  for (const auto& [host, objects] : untold_) hosts.push_back(host);
  for (const HostId host : hosts) BeforeSend(host);
}

void SemaphoreNews::BeforeSend(HostId to) {
  if (untold_.empty()) return;
  const auto untold = untold_.extract(to);
  if (untold.empty()) return;
  for (const uint64_t object : untold.mapped()) {
    const auto found = told_.find(object);
    if (found == told_.end()) continue;
    const auto of_host = found->second.find(to);
    if (of_host == found->second.end()) continue;
    Told& told = of_host->second;
    wire::SemaphoreNow now = look_(object, to);
    if (told.now.known == 0 || IsSame(now, told.now)) continue;
    if (++told.unasked > kMostUnasked) now.known = 0;
    told.now = now;
    agent_.SendAhead(to, wire::SemaphoreRequest{0, Operation::kKnown, object, now.known, now.posts});
  }
}

void SemaphoreNews::Forget(uint64_t object) {
  const auto told = told_.extract(object);
  if (told.empty()) return;
  for (const auto& [host, what] : told.mapped())
    agent_.SendDecided(host, wire::SemaphoreRequest{0, Operation::kForget, object, 0, 0});
}

void SemaphoreNews::ForgetHost(HostId host) {
  untold_.erase(host);
  for (auto& [object, told] : told_) told.erase(host);
}

}  // namespace elsewhere::runtime
