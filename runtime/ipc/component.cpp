// Semaphores and segments as one component of the agent, because a post releases memory, a segment carries
// semaphores, and a job brings both.
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "runtime/ipc.h"
#include "runtime/ipc/attached_segment.h"
#include "runtime/ipc/segment_offers.h"
#include "runtime/ipc/segments.h"
#include "runtime/ipc/semaphore_calls.h"
#include "runtime/ipc/semaphore_names.h"
#include "runtime/ipc/shared_objects.h"
#include "runtime/shared_files.h"
#include "shim/wire/image_view.h"

namespace elsewhere::runtime {
namespace {

constexpr uint64_t kPageBytes = 4096;

class Ipc final : public Component, private SharedFiles {
 public:
  explicit Ipc(Agent& agent)
      : agent_(agent),
        segments_(agent),
        offers_(agent, segments_),
        calls_(agent, [this] { segments_.Publish(); }),
        names_(agent, calls_, segments_),
        objects_(agent, segments_, calls_.processes(), [this] { segments_.Publish(); }) {
    agent.OnCall(abi::Operation::kFence, [this](CallId id, const Call& call) { Fence(id, call); });
    if (agent.is_home()) agent.SetSharedFiles(this);
  }
  ~Ipc() override { agent_.SetSharedFiles(nullptr); }

  Status Captured(const Process& deputy, std::span<const uint8_t> manifest,
                  std::vector<HeldDescriptor>& descriptors, wire::Job& job) override;
  void JobWithdrawn(const wire::Job& job) override;
  void Prepare(const wire::Job& job, std::vector<HeldDescriptor>& descriptors, Done done) override;
  void ProcessStarted(const Process& process, const Process* parent) override;
  void ProcessRegistered(const Process& process, const Process* parent) override;
  void SegmentsChanged() override { segments_.LetGoOfAbandoned(); }
  void BeforeSend(HostId to) override {
    calls_.BeforeSend(to);
    if (!agent_.published()) segments_.Publish();
  }
  void ProcessEnding(const Process& process) override {
    if (!agent_.is_home()) calls_.ProcessEnding(process);
  }
  void Drain(const Process& process, DrainReason reason, std::function<void()> done) override {
    if (!reason.ended) {
      segments_.Publish();
      return done();
    }
    // That it ended is said in a message, which publishes.
    objects_.LookForDeaths();
    if (agent_.is_home()) return done();
    calls_.ProcessEnded(process.kernel_pid, [this, done = std::move(done)] {
      if (calls_.processes().empty()) objects_.ReturnLeases();
      done();
    });
  }
  void ProcessGone(const Process& process) override;
  void CallDropped(CallId id) override {
    calls_.CallDropped(id);
    names_.CallDropped(id);
    offers_.CallDropped(id);
    objects_.CallDropped(id);
  }
  void CallCancelled(CallId id) override { calls_.CallCancelled(id); }
  void HostGone(HostId host) override {
    calls_.HostGone(host);
    segments_.HostGone(host);
    objects_.HostGone(host);
  }
  void SessionEnding() override {
    objects_.Close();
    segments_.Close();
  }

 private:
  uint64_t UserOf(const Process& process) const {
    return agent_.is_home() ? static_cast<uint64_t>(process.kernel_pid) : process.incarnation;
  }
  Status CaptureSegments(const Process& deputy, const image::View& view,
                         std::vector<HeldDescriptor>& descriptors, wire::SharedState& state);
  Status Share(const Process& deputy, const ObjectKey& key, Segment& segment, uint32_t object,
               wire::SharedState& state);
  Result<wire::SharedFile> ShareFile(int descriptor, int32_t session_pid) override;
  void AddDescriptors(const wire::SharedState& state, std::vector<HeldDescriptor>& descriptors);
  void Fence(CallId id, const Call& call);

  Agent& agent_;
  Segments segments_;
  SegmentOffers offers_;
  SemaphoreCalls calls_;
  SemaphoreNames names_;
  SharedObjects objects_;
  std::set<Incarnation> preparing_;  // worker: jobs whose segments are not all here
};

std::string NameOf(const image::View& view, const image::Object& object) {
  std::string path = view.text(object.path);
  if (path.find("elsewhere-shared") == std::string::npos && !path.empty()) return path;
  return "an anonymous shared mapping of " + std::to_string(object.size) + " bytes";
}

// The attached descriptor that refers to the object, -1 if there is none.
int FindAttached(const image::View& view, const image::Object& object,
                 const std::vector<HeldDescriptor>& descriptors) {
  for (const image::Descriptor& descriptor : view.descriptors()) {
    if (descriptor.device != object.device || descriptor.inode != object.inode) continue;
    if (descriptor.attached < descriptors.size() && descriptors[descriptor.attached].descriptor >= 0) {
      return descriptors[descriptor.attached].descriptor;
    }
  }
  return -1;
}

Status Ipc::Captured(const Process& deputy, std::span<const uint8_t> manifest,
                     std::vector<HeldDescriptor>& descriptors, wire::Job& job) {
  image::View view;
  if (const char* wrong = image::View::Open(manifest.data(), manifest.size(), &view))
    return Error{EPROTO, wrong};
  wire::SharedState state;
  if (auto captured = CaptureSegments(deputy, view, descriptors, state); !captured) return captured;
  state.semaphores = names_.Capture(deputy.kernel_pid, view.header().identity.parent);
  wire::Writer writer;
  writer.Write(state);
  job.memory = writer.Take();
  return Ok{};
}

// `object`: index of the image's object that it is, or kNone.
Status Ipc::Share(const Process& deputy, const ObjectKey& key, Segment& segment, uint32_t object,
                  wire::SharedState& state) {
  segments_.Use(static_cast<uint64_t>(deputy.kernel_pid), segment.id());
  names_.Promote(key, segment);
  if (auto promoted = objects_.Promote(key, segment); !promoted) return promoted;
  state.segments.push_back(
      {segment.id(), key.device, key.inode, segment.size(), object, segment.name(), segment.follows_size()});
  return Ok{};
}

bool IsInMemory(int descriptor) {
  struct statfs system {};
  return fstatfs(descriptor, &system) == 0 && system.f_type == TMPFS_MAGIC;
}

// Of an object that is mapped. A file that is not there to be mapped is read and written, too, at home, by
// whoever has a descriptor.
memory::Size SizeOf(int descriptor) {
  struct statfs system {};
  const bool huge = fstatfs(descriptor, &system) == 0 && system.f_type == HUGETLBFS_MAGIC;
  return huge || IsInMemory(descriptor) ? memory::Size::kFixed : memory::Size::kFollowed;
}

// A file on a memory file system that no path leads to, is there to be mapped (whole pages, and nobody has
// read or written through the descriptor), and may be written through it: shared memory that the process has
// not mapped, or not any more. What it holds is one for all hosts.
bool IsUnmappedMemory(int held, const image::Descriptor& descriptor) {
  if (!S_ISREG(descriptor.mode) || descriptor.number <= STDERR_FILENO ||
      (descriptor.flags & O_ACCMODE) != O_RDWR || descriptor.offset != 0 || descriptor.size == 0 ||
      descriptor.size % kPageBytes != 0) {
    return false;
  }
  struct stat status {};
  const int seals = fcntl(held, F_GET_SEALS);
  return fstat(held, &status) == 0 && status.st_nlink == 0 && IsInMemory(held) &&
         (seals < 0 || (seals & F_SEAL_WRITE) == 0);
}

// Its deputy has the descriptor, so the file exists until this is done.
Result<wire::SharedFile> Ipc::ShareFile(int descriptor, int32_t session_pid) {
  const Process* deputy = agent_.FindSessionPid(session_pid);
  struct stat status {};
  if (deputy == nullptr || fstat(descriptor, &status) != 0) return Error{ENODEV, "its process has ended"};
  const ObjectKey key{status.st_dev, status.st_ino};
  char name[sizeof wire::SharedFile::name] = {};
  if (readlink(("/proc/self/fd/" + std::to_string(descriptor)).c_str(), name, sizeof name - 1) < 0)
    return Error{ENODEV, "it has no name"};
  wire::SharedState state;
  auto segment = segments_.Obtain(key, descriptor, 0, name, memory::Size::kFollowed);
  const Status shared =
      segment ? Share(*deputy, key, **segment, image::kNone, state) : Status(segment.error());
  if (!shared) {
    agent_.Note("a process elsewhere could not map a file of home: " + shared.error().message);
    return Error{ENODEV, shared.error().message};
  }
  wire::SharedFile file{(*segment)->id(),           key.device, key.inode, (*segment)->size(),
                        (*segment)->follows_size(), 0,          {}};
  std::memcpy(file.name, name, sizeof name);
  return file;
}

Status Ipc::CaptureSegments(const Process& deputy, const image::View& view,
                            std::vector<HeldDescriptor>& descriptors, wire::SharedState& state) {
  std::vector<bool> needed(view.objects().count, false);
  for (const image::Region& region : view.regions()) {
    if (region.kind == static_cast<uint32_t>(image::RegionKind::kShared)) needed[region.object] = true;
  }
  for (uint32_t index = 0; index < view.objects().count; ++index) {
    const image::Object& object = view.objects()[index];
    if (!needed[index]) continue;
    const ObjectKey key{object.device, object.inode};
    const int attached = FindAttached(view, object, descriptors);
    auto segment = IsSystemV(view.text(object.path))
                       ? segments_.ObtainSystemV(static_cast<int>(object.inode))
                       : segments_.Obtain(key, attached, object.size, NameOf(view, object), SizeOf(attached));
    if (!segment) return segment.error();
    if (auto shared = Share(deputy, key, **segment, index, state); !shared) return shared;
  }
  for (const image::Descriptor& descriptor : view.descriptors()) {
    const ObjectKey key{descriptor.device, descriptor.inode};
    if (descriptor.attached >= descriptors.size() || descriptor.number >= abi::kFirstOwnDescriptor) continue;
    const int held = descriptors[descriptor.attached].descriptor;
    if (held < 0 || !IsUnmappedMemory(held, descriptor)) continue;
    const bool listed = std::any_of(state.segments.begin(), state.segments.end(), [&key](const auto& known) {
      return known.device == key.device && known.inode == key.inode;
    });
    if (listed) continue;
    auto segment = segments_.Obtain(key, held, descriptor.size, view.text(descriptor.path));
    if (!segment) return segment.error();
    if (auto shared = Share(deputy, key, **segment, image::kNone, state); !shared) return shared;
  }
  for (const image::Descriptor& descriptor : view.descriptors()) {
    const Segment* segment = segments_.Find(ObjectKey{descriptor.device, descriptor.inode});
    if (segment == nullptr || descriptor.attached >= descriptors.size()) continue;
    HeldDescriptor& held = descriptors[descriptor.attached];
    const bool own =
        descriptor.number >= abi::kFirstOwnDescriptor;  // the preload's, for captures at home only
    if (segment->follows_size() && !own) continue;      // used at home, call by call
    if (held.descriptor >= 0) close(held.descriptor);
    held.descriptor = -1;
    if (own) continue;
    state.descriptors.push_back(
        {descriptor.number, static_cast<int32_t>(descriptor.descriptor_flags), segment->id()});
  }
  return Ok{};
}

// At home the deputy goes on as the child, with the same objects: its segments stay until it ends.
void Ipc::JobWithdrawn(const wire::Job& job) {
  if (agent_.is_home()) return;
  preparing_.erase(job.incarnation);
  segments_.Release(job.incarnation);
}

void Ipc::Prepare(const wire::Job& job, std::vector<HeldDescriptor>& descriptors, Done done) {
  wire::SharedState state;
  if (!job.memory.empty()) {
    wire::Reader reader(job.memory);
    reader.Read(state);
    if (!reader.AtEnd()) return done(Error{EPROTO, "malformed list of shared memory"});
  }
  names_.Adopt(state.semaphores);
  if (state.segments.empty()) return done(Ok{});
  for (const auto& segment : state.segments) segments_.Use(job.incarnation, segment.segment);

  // Whichever segment is here last makes the descriptors; the first failure ends it.
  preparing_.insert(job.incarnation);
  auto left = std::make_shared<size_t>(state.segments.size());
  auto finish = [this, state, &descriptors, done, left, user = job.incarnation](const Status& joined) {
    if (!preparing_.contains(user)) return;  // withdrawn, or failed already: `descriptors` may be gone
    if (joined && --*left != 0) return;
    preparing_.erase(user);
    if (joined) {
      AddDescriptors(state, descriptors);
    } else {
      segments_.Release(user);
    }
    done(joined);
  };
  for (const auto& segment : state.segments) segments_.Join(segment, finish);
}

void Ipc::AddDescriptors(const wire::SharedState& state, std::vector<HeldDescriptor>& descriptors) {
  const auto add = [this, &descriptors](SegmentId id, int32_t number, int32_t flags) {
    const Segment* segment = segments_.Find(id);
    if (segment == nullptr) return;
    descriptors.push_back({number, fcntl(segment->descriptor(), F_DUPFD_CLOEXEC, 0), flags});
  };
  for (const auto& segment : state.segments) {
    if (segment.object != image::kNone) add(segment.segment, MappedObject(segment.object), 0);
  }
  for (const auto& held : state.descriptors) add(held.segment, held.number, held.flags);
}

void Ipc::ProcessStarted(const Process& process, const Process* parent) {
  calls_.ProcessStarted(process.kernel_pid);
  if (parent != nullptr) segments_.UseLike(process.incarnation, parent->incarnation);
}

void Ipc::ProcessRegistered(const Process& process, const Process* parent) {
  if (parent == nullptr) return;
  names_.Inherit(process.kernel_pid, parent->kernel_pid);
  segments_.UseLike(UserOf(process), UserOf(*parent));
}

void Ipc::ProcessGone(const Process& process) {
  segments_.Release(UserOf(process));
  names_.ProcessGone(process.kernel_pid);
  calls_.ProcessGone(process.kernel_pid);
  objects_.ProcessGone(process.kernel_pid);
}

// A program's own release that nothing else shows (kill, or a lock of a file that only the kernel has).
void Ipc::Fence(CallId id, const Call& call) {
  const Process* process = agent_.FindKernelPid(call.kernel_pid);
  if (process == nullptr) return agent_.Complete(id, 0);
  const auto done = [this, id] { agent_.Complete(id, 0); };
  agent_.DrainCaller(id, call, *process, done, call.arguments[0] == abi::kFenceHome);
}

}  // namespace

std::unique_ptr<Component> MakeIpc(Agent& agent) {
  return std::make_unique<Ipc>(agent);
}

}  // namespace elsewhere::runtime
