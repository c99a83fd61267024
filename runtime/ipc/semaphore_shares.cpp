#include "runtime/ipc/semaphore_shares.h"

#include <utility>
#include <vector>

namespace elsewhere::runtime {

using What = wire::SemaphorePartMessage::What;

SemaphoreShares::SemaphoreShares(Agent& agent, Callbacks callbacks)
    : agent_(agent), callbacks_(std::move(callbacks)) {
  agent.OnMessage<Message>([this](HostId from, Message&& message) { OnMessage(from, message); });
}

wire::SemaphoreShare* SemaphoreShares::Cell(uint64_t object) {
  return wire::LeaseCell<wire::SemaphoreShare>(&agent_.table(), object);
}

wire::SemaphoreShare* SemaphoreShares::Part(uint64_t object) {
  const auto found = shared_.find(object);
  return found == shared_.end() || found->second.gathering ? nullptr : Cell(object);
}

bool SemaphoreShares::Has(uint64_t object, HostId host) const {
  const auto found = shared_.find(object);
  return found != shared_.end() && found->second.others.contains(host);
}

bool SemaphoreShares::IsGathering(uint64_t object) const {
  const auto found = shared_.find(object);
  return found != shared_.end() && found->second.gathering;
}

// ---- What hosts tell each other

uint32_t SemaphoreShares::Elsewhere(const Shared& shared, uint32_t own, HostId of) const {
  uint64_t sum = own;
  for (const auto& [host, told] : shared.others) sum += host == of ? 0 : told.count;
  return static_cast<uint32_t>(sum);
}

void SemaphoreShares::BeforeSend() {
  for (auto& [object, shared] : shared_) {
    if (shared.gathering) continue;
    if (agent_.is_home()) {
      TellOthers(object, shared);
    } else {
      TellHome(object, shared);
    }
  }
}

void SemaphoreShares::TellHome(uint64_t object, Shared& shared) {
  const uint32_t count = wire::ShareLook(Cell(object)).count;
  if (count == shared.told) return;
  const uint32_t taken = shared.told > count ? shared.told - count : 0;
  shared.told = count;
  agent_.SendAhead(wire::kHome,
                   Message{What::kNews, object, count, wire::ShareTakeRoom(Cell(object), taken), 0});
}

void SemaphoreShares::TellOthers(uint64_t object, Shared& shared) {
  if (shared.others.empty()) return;
  const uint32_t count = wire::ShareLook(Cell(object)).count;
  const uint32_t taken = shared.told > count ? shared.told - count : 0;
  shared.told = count;
  const auto each = static_cast<uint32_t>((taken + shared.others.size() - 1) / shared.others.size());
  for (auto& [host, told] : shared.others) {
    const uint32_t room = wire::ShareTakeRoom(Cell(object), each);
    const uint32_t elsewhere = Elsewhere(shared, count, host);
    if (room == 0 && elsewhere == told.elsewhere) continue;
    told.elsewhere = elsewhere;
    agent_.SendAhead(host, Message{What::kNews, object, elsewhere, room, 0});
  }
}

void SemaphoreShares::OnMessage(HostId from, const Message& message) {
  switch (message.what) {
    case What::kGive:
      return OnGive(message);
    case What::kNews:
      return OnNews(from, message);
    case What::kRecall:
      return Return(message.object);
    case What::kReturn:
      return OnReturn(from, message);
    case What::kForget:
      return Forget(message.object);
  }
  agent_.RefuseMessage(from, "a part of a semaphore that is none");
}

void SemaphoreShares::OnNews(HostId from, const Message& news) {
  const auto found = shared_.find(news.object);
  if (found == shared_.end()) return;  // it has gone back
  Shared& shared = found->second;
  if (shared.gathering) {
    shared.in_hand.room += news.room;
    return;
  }
  if (agent_.is_home()) {
    const auto other = shared.others.find(from);
    if (other == shared.others.end()) return;
    other->second.count = news.count;
    Cell(news.object)->elsewhere.store(Elsewhere(shared, 0, wire::kHome));
  } else {
    Cell(news.object)->elsewhere.store(news.count);
  }
  wire::SharePut(Cell(news.object), news.object, {0, news.room});
}

// ---- A worker's part

void SemaphoreShares::OnGive(const Message& part) {
  const bool taken = callbacks_.may_take() &&
                     wire::SharePut(Cell(part.object), part.object, {part.count, part.room}, &part.elsewhere);
  if (!taken) {
    const uint32_t never = callbacks_.may_take() ? 1 : 0;
    return agent_.Send(wire::kHome, Message{What::kReturn, part.object, part.count, part.room, never});
  }
  shared_[part.object].told = part.count;
}

void SemaphoreShares::Return(uint64_t object) {
  const auto found = shared_.extract(object);
  if (found.empty()) return;  // it is on its way home
  const wire::SemaphorePart part = wire::ShareTakeAll(Cell(object));
  // Goes before the bytes, as ever; the part itself goes behind them.
  if (part.count != found.mapped().told)
    agent_.SendAhead(wire::kHome, Message{What::kNews, object, part.count, 0, 0});
  callbacks_.before_return();
  agent_.Send(wire::kHome, Message{What::kReturn, object, part.count, part.room, 0});
}

void SemaphoreShares::ReturnAll() {
  std::vector<uint64_t> objects;
  for (const auto& [object, shared] : shared_) objects.push_back(object);
  for (const uint64_t object : objects) Return(object);
}

// ---- Home

bool SemaphoreShares::Begin(uint64_t object, uint32_t count) {
  if (!wire::SharePut(Cell(object), object, {count, wire::kSemaphoreMaximum - count})) return false;
  Cell(object)->elsewhere.store(0);
  shared_[object].told = count;
  return true;
}

void SemaphoreShares::Give(uint64_t object, HostId host) {
  Shared& shared = shared_.at(object);
  const wire::SemaphorePart all = wire::ShareTakeAll(Cell(object));
  const wire::SemaphorePart part{all.count / 2, all.room / 2};
  const wire::SemaphorePart left{all.count - part.count, all.room - part.room};
  shared.others[host] = {part.count, 0};
  shared.told = left.count;
  shared.others[host].elsewhere = Elsewhere(shared, left.count, host);
  Cell(object)->elsewhere.store(Elsewhere(shared, 0, wire::kHome));
  wire::SharePut(Cell(object), object, left);
  agent_.SendDecided(host,
                     Message{What::kGive, object, part.count, part.room, shared.others[host].elsewhere});
}

void SemaphoreShares::Gather(uint64_t object) {
  Shared& shared = shared_.at(object);
  if (std::exchange(shared.gathering, true)) return;
  shared.in_hand = wire::ShareTakeAll(Cell(object));
  std::vector<HostId> hosts;
  for (const auto& [host, told] : shared.others) hosts.push_back(host);
  for (const HostId host : hosts) agent_.SendDecided(host, Message{What::kRecall, object, 0, 0, 0});
  EndIfGathered(object);
}

void SemaphoreShares::OnReturn(HostId from, const Message& part) {
  const auto found = shared_.find(part.object);
  if (found == shared_.end() || found->second.others.erase(from) == 0) return;
  Shared& shared = found->second;
  if (part.elsewhere != 0) callbacks_.refused(part.object);
  if (shared.gathering) {
    shared.in_hand.count += part.count;
    shared.in_hand.room += part.room;
    return EndIfGathered(part.object);
  }
  const uint32_t elsewhere = Elsewhere(shared, 0, wire::kHome);
  wire::SharePut(Cell(part.object), part.object, {part.count, part.room}, &elsewhere);
}

void SemaphoreShares::EndIfGathered(uint64_t object) {
  const auto found = shared_.find(object);
  if (found == shared_.end() || !found->second.gathering || !found->second.others.empty()) return;
  const uint32_t count = found->second.in_hand.count;
  shared_.erase(found);
  callbacks_.gathered(object, count);
}

void SemaphoreShares::Forget(uint64_t object) {
  if (const auto found = shared_.find(object); found != shared_.end()) {
    for (const auto& [host, told] : found->second.others)
      agent_.SendDecided(host, Message{What::kForget, object, 0, 0, 0});
    shared_.erase(found);
  }
  if (Cell(object)->object.load() != object) return;
  wire::ShareTakeAll(Cell(object));
  Cell(object)->object.store(0);
}

// What it had is lost, and the session ends with it.
void SemaphoreShares::ForgetHost(HostId host) {
  std::vector<uint64_t> objects;
  for (auto& [object, shared] : shared_) {
    if (shared.others.erase(host) != 0) objects.push_back(object);
  }
  for (const uint64_t object : objects) EndIfGathered(object);
}

}  // namespace elsewhere::runtime
