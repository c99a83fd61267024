#include "shim/memory/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace elsewhere::memory {
namespace {

constexpr uint64_t kWorthSeeking = 1024 * 1024;
constexpr uint64_t kPage = 4096;
constexpr uint32_t kLooksSaved = 64;

Error SystemError(const std::string& what) {
  const int code = errno;
  return Error{code, what + ": " + std::strerror(code)};
}

}  // namespace

Result<std::unique_ptr<Segment>> Segment::Adopt(SegmentId id, HostId self, int descriptor, uint64_t size,
                                                std::string name, Size kind) {
  // Opened anew: the program's own descriptor keeps its offset while we seek for data.
  const int own = open(("/proc/self/fd/" + std::to_string(descriptor)).c_str(), O_RDWR | O_CLOEXEC);
  if (own < 0) return SystemError("opening " + name);
  std::unique_ptr<Segment> segment(new Segment(id, self, own, std::move(name), kind));
  if (auto mapped = segment->Map(size); !mapped) return mapped.error();
  segment->ClampToObject();
  segment->told_size_ = segment->least_size_ = segment->twins_.size;
  segment->CopyToShadow();
  return segment;
}

Result<std::unique_ptr<Segment>> Segment::AdoptAttached(SegmentId id, HostId self, uint8_t* live,
                                                        uint64_t size, std::string name) {
  std::unique_ptr<Segment> segment(new Segment(id, self, -1, std::move(name)));
  segment->twins_.live = live;
  segment->mapped_ = size;
  if (auto made = segment->MakeShadow(size); !made) return made.error();
  segment->CopyToShadow();
  return segment;
}

void Segment::CopyToShadow() {
  static constexpr uint8_t kZeros[kPage] = {};
  had_data_ = DataExtents();
  for (const auto& [begin, end] : had_data_) {
    for (uint64_t at = begin; at < end; at += kPage) {
      const uint64_t count = std::min(kPage, end - at);
      if (std::memcmp(twins_.live + at, kZeros, count) != 0)
        std::memcpy(twins_.shadow + at, twins_.live + at, count);
    }
  }
}

Result<std::unique_ptr<Segment>> Segment::CreateEmpty(SegmentId id, HostId self, uint64_t size,
                                                      std::string name, Size kind) {
  const int descriptor = memfd_create("elsewhere-segment", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (descriptor < 0) return SystemError("shared segment");
  std::unique_ptr<Segment> segment(new Segment(id, self, descriptor, std::move(name), kind));
  if (ftruncate(descriptor, static_cast<off_t>(size)) != 0) return SystemError("shared segment");
  // Other members would not see that.
  if (kind == Size::kFixed && fcntl(descriptor, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) != 0)
    return SystemError("shared segment");
  if (auto mapped = segment->Map(size); !mapped) return mapped.error();
  segment->loaded_ = false;
  return segment;
}

Segment::~Segment() {
  if (twins_.live != nullptr && descriptor_ < 0) shmdt(twins_.live);
  if (twins_.live != nullptr && descriptor_ >= 0) munmap(twins_.live, mapped_);
  if (twins_.shadow != nullptr) munmap(twins_.shadow, mapped_);
  if (descriptor_ >= 0) close(descriptor_);
}

Status Segment::Map(uint64_t size) {
  if (follows_size()) return Follow(size);
  if (size == 0) return Error{EINVAL, "shared mapping of an empty object"};
  void* live = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, 0);
  if (live == MAP_FAILED) return SystemError("mapping " + name_);
  twins_.live = static_cast<uint8_t*>(live);
  mapped_ = size;
  return MakeShadow(size);
}

Status Segment::MakeShadow(uint64_t size) {
  void* shadow =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (shadow == MAP_FAILED) return SystemError("shadow of " + name_);
  twins_.shadow = static_cast<uint8_t*>(shadow);
  twins_.size = size;
  return Ok{};
}

// A file that a program truncated has no pages behind its end: touching them would be our SIGBUS. (Best
// effort: it may still shrink between this look and the comparison.)
void Segment::ClampToObject() {
  if (descriptor_ < 0) return;
  struct stat status {};
  if (fstat(descriptor_, &status) != 0) return;
  const auto size = static_cast<uint64_t>(std::max<off_t>(status.st_size, 0));
  if (!follows_size()) {
    twins_.size = std::min(mapped_, size);
  } else if (size != twins_.size) {
    if (Status followed = Follow(size); !followed) followed_ = std::move(followed);
  }
}

// Both are mapped in whole pages, one at least.
Status Segment::Follow(uint64_t size) {
  const uint64_t wanted = std::max(kPage, (size + kPage - 1) / kPage * kPage);
  if (wanted > mapped_) {
    const auto grow = [this, wanted](uint8_t*& twin, int flags, int descriptor) {
      void* grown = twin != nullptr ? mremap(twin, mapped_, wanted, MREMAP_MAYMOVE)
                                    : mmap(nullptr, wanted, PROT_READ | PROT_WRITE, flags, descriptor, 0);
      if (grown == MAP_FAILED) return false;
      twin = static_cast<uint8_t*>(grown);
      return true;
    };
    if (!grow(twins_.shadow, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1))
      return SystemError("shadow of " + name_);
    if (!grow(twins_.live, MAP_SHARED, descriptor_)) {
      const Status failed = SystemError("mapping " + name_);
      munmap(twins_.shadow + mapped_, wanted - mapped_);
      if (mapped_ == 0) twins_.shadow = nullptr;
      return failed;
    }
    mapped_ = wanted;
  }
  if (size < twins_.size) {
    const uint64_t page = (size + kPage - 1) / kPage * kPage;
    std::memset(twins_.shadow + size, 0, std::min(page, mapped_) - size);
    if (page < mapped_) madvise(twins_.shadow + page, mapped_ - page, MADV_DONTNEED);
  }
  twins_.size = size;
  least_size_ = std::min(least_size_, size);
  return Ok{};
}

std::vector<uint64_t> Segment::TakeSizes() {
  if (!follows_size()) return {};
  std::vector<uint64_t> sizes;
  if (least_size_ < told_size_) sizes.push_back(least_size_);
  if (twins_.size != (sizes.empty() ? told_size_ : least_size_)) sizes.push_back(twins_.size);
  told_size_ = least_size_ = twins_.size;
  return sizes;
}

Status Segment::Resize(uint64_t size) {
  if (!follows_size()) return Error{EPROTO, "another size of " + name_};
  if (ftruncate(descriptor_, static_cast<off_t>(size)) != 0) return SystemError("another size of " + name_);
  return Follow(size);
}

// What of it lies in front of the end.
Run Segment::Inside(const Run& run) const {
  if (run.offset >= twins_.size) return Run{twins_.size, {}};
  return Run{run.offset, run.bytes.first(std::min<uint64_t>(run.bytes.size(), twins_.size - run.offset))};
}

// Where the live object has pages. Looking at a hole would give it one, and a large mapping is mostly holes.
// One that had none is not asked again for a while: making holes is rare, and asking costs as much as half of
// comparing.
Segment::Extents Segment::DataExtents() const {
  Extents extents;
  if (twins_.size <= kWorthSeeking || descriptor_ < 0) return {{0, twins_.size}};
  if (full_size_ == twins_.size && looks_saved_++ < kLooksSaved) return {{0, twins_.size}};
  const auto size = static_cast<off_t>(twins_.size);
  for (off_t end = 0; end < size;) {
    const off_t begin = lseek(descriptor_, end, SEEK_DATA);
    if (begin < 0 || begin >= size) {
      if (begin < 0 && errno != ENXIO) return {{0, twins_.size}};
      break;
    }
    end = lseek(descriptor_, begin, SEEK_HOLE);
    if (end <= begin || end > size) end = size;
    extents.emplace_back(static_cast<uint64_t>(begin), static_cast<uint64_t>(end));
  }
  looks_saved_ = 0;
  full_size_ =
      extents.size() == 1 && extents[0] == std::pair<uint64_t, uint64_t>{0, twins_.size} ? twins_.size : 0;
  return extents;
}

// A file may have been cut and made as long as it was again: what was data is zero, and has no pages.
Segment::Extents Segment::ExtentsToCompare() {
  if (!follows_size()) return DataExtents();
  Extents all = DataExtents(), now = all;
  all.insert(all.end(), had_data_.begin(), had_data_.end());
  had_data_ = std::move(now);
  std::sort(all.begin(), all.end());
  Extents merged;
  for (auto [begin, end] : all) {
    end = std::min(end, twins_.size);
    if (!merged.empty() && begin <= merged.back().second) {
      merged.back().second = std::max(merged.back().second, end);
    } else if (begin < end) {
      merged.emplace_back(begin, end);
    }
  }
  return merged;
}

std::vector<Publication> Segment::Publish() {
  std::vector<Publication> pieces;
  if (!loaded_) return pieces;
  ClampToObject();
  DiffWriter writer;
  const auto finish_piece = [&] {
    if (writer.empty()) return;
    Publication& piece = pieces.emplace_back(Publication{self_, ++published_, seen_, writer.Take()});
    Remember(piece.number, piece.diff);
  };
  for (const auto& [begin, end] : ExtentsToCompare()) {
    const Twins extent{twins_.live, twins_.shadow, end};
    for (uint64_t at = begin; at < end;) {
      at = CollectChanges(extent, at, kPieceBytes, &writer);
      if (at < end) finish_piece();
    }
  }
  finish_piece();
  return pieces;
}

Snapshot Segment::TakeSnapshot() const {
  Snapshot snapshot;
  snapshot.seen = seen_;
  snapshot.seen[self_] = published_;
  for (const auto& [begin, end] : DataExtents()) {
    for (uint64_t at = begin; at < end;) {
      DiffWriter writer;
      at = CollectContent(twins_.shadow, at, end, kPieceBytes, &writer);
      if (!writer.empty()) snapshot.diffs.push_back(writer.Take());
    }
  }
  return snapshot;
}

Status Segment::Load(const Snapshot& snapshot) {
  for (const auto& diff : snapshot.diffs) {
    DiffReader reader(diff, DiffLimit());
    for (Run run; reader.Next(&run);) ApplyRun(twins_, Inside(run));
    if (!reader.ok()) return Error{EPROTO, "malformed snapshot of " + name_};
  }
  seen_ = snapshot.seen;
  if (const auto own = seen_.find(self_); own != seen_.end()) published_ = own->second;
  loaded_ = true;
  for (const Publication& publication : std::exchange(waiting_, {})) {
    if (auto applied = Apply(publication); !applied) return applied;
  }
  return Ok{};
}

Status Segment::Apply(const Publication& publication) {
  if (!loaded_) {
    waiting_.push_back(publication);
    return Ok{};
  }
  uint64_t& last = seen_[publication.from];
  if (publication.number <= last) return Ok{};
  if (publication.number != last + 1) {
    return Error{EPROTO,
                 "a change of " + name_ + " from host " + std::to_string(publication.from) + " is missing"};
  }
  const auto ours = publication.seen.find(self_);
  const uint64_t seen_of_ours = ours == publication.seen.end() ? 0 : ours->second;
  ClampToObject();
  if (!followed_) return followed_;
  DiffReader reader(publication.diff, DiffLimit());
  for (Run run; reader.Next(&run);) {
    run = Inside(run);
    if (run.bytes.empty()) continue;
    if (const auto offset = ConflictAt(run, seen_of_ours)) return Conflict(publication.from, *offset);
    ApplyRun(twins_, run);
    if (follows_size()) had_data_.emplace_back(run.offset / kPage * kPage, run.offset + run.bytes.size());
  }
  if (!reader.ok()) return Error{EPROTO, "malformed change of " + name_};
  last = publication.number;
  return Ok{};
}

void Segment::Remember(uint64_t number, std::span<const uint8_t> diff) {
  Remembered& remembered = own_.emplace_back();
  remembered.number = number;
  DiffReader reader(diff, twins_.size);
  for (Run run; reader.Next(&run);) remembered.ranges.emplace_back(run.offset, run.offset + run.bytes.size());
  remembered_runs_ += remembered.ranges.size();
  while (remembered_runs_ > kRememberedRuns && own_.size() > 1) {
    remembered_runs_ -= own_.front().ranges.size();
    own_.pop_front();
  }
}

std::optional<uint64_t> Segment::ConflictAt(const Run& run, uint64_t seen_of_ours) const {
  const uint64_t end = run.offset + run.bytes.size();
  if (const uint64_t at = FirstUnpublished(twins_, run); at != end) return at;
  for (auto entry = own_.rbegin(); entry != own_.rend() && entry->number > seen_of_ours; ++entry) {
    const auto& ranges = entry->ranges;
    const auto hit =
        std::lower_bound(ranges.begin(), ranges.end(), run.offset,
                         [](const auto& range, uint64_t offset) { return range.second <= offset; });
    if (hit != ranges.end() && hit->first < end) return std::max(hit->first, run.offset);
  }
  return std::nullopt;
}

Error Segment::Conflict(HostId other, uint64_t offset) const {
  const auto host = [](HostId id) { return id == 0 ? std::string("home") : "host " + std::to_string(id); };
  return Error{EBUSY,
               "shared memory: byte " + std::to_string(offset) + " of " + name_ + " was changed on " +
                   host(self_) + " and on " + host(other) +
                   " at the same time, and nothing (semaphore, pipe, exit) put the changes in order; one of "
                   "them would be lost. Remedy: run with --colocate"};
}

}  // namespace elsewhere::memory
