// The contract between a worker agent and its zygote (runtime/restorer), on one SOCK_SEQPACKET connection.
//
// A request is one RestoreRequest packet with up to kDescriptorsPerPacket descriptors (SCM_RIGHTS), followed
// by as many MoreDescriptors packets as it takes to deliver `descriptor_count` of them. Descriptor 0 of the
// request is the manifest's memfd; the manifest's `source` fields are indices into the request's descriptors.
// The zygote takes requests one after the other; descriptors belong to the request and are closed by the
// zygote.
//
// Answers, in this order for one request, each one packet carrying the request's id:
//   kForked   the child exists; `value` is its pid. It is a child of the agent (CLONE_PARENT), which must
//   reap it. kEntered  sent by the child just before it continues the image. Or kFailed   nothing of the
//   image ran; `value` is an errno, `text` names the step. A child that says so exits 127.
// When kForked was not sent before kFailed there is no child. A child that dies without kEntered or kFailed
// has not run anything of the image either (its end is seen by the agent that reaps it).
//
// Plain C layouts, included by freestanding code.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace elsewhere::restore {

inline constexpr uint32_t kRequestMagic = 0x52534c45;  // "ELSR"
inline constexpr uint32_t kMoreMagic = 0x4d534c45;     // "ELSM"
inline constexpr uint32_t kDescriptorsPerPacket = 250;
inline constexpr uint32_t kMaxDescriptors = 60000;
inline constexpr uint32_t kMaxInstalls = 32;
inline constexpr uint32_t kMaxNote = 512;
inline constexpr uint32_t kNone = 0xffffffff;

enum Flag : uint32_t {
  kApplyAffinity = 1,   // the worker runs on the machine of the capture: set the processor mask
  kAvoidMemoryMap = 2,  // do as on a kernel without PR_SET_MM_MAP (tests)
  kAvoidMapping = 4,    // copy chunks instead of mapping them (tests, comparisons)
};

// A descriptor that is not in the manifest.
struct Install {
  int32_t number;
  uint32_t source;   // index among the request's descriptors
  uint32_t cloexec;  // 1: close on exec
  uint32_t reserved;
};
static_assert(sizeof(Install) == 16);

struct RestoreRequest {
  uint32_t magic;
  uint32_t flags;  // Flag
  uint64_t id;     // chosen by the agent
  uint64_t manifest_size;
  uint32_t descriptor_count;
  uint32_t install_count;
  uint32_t note_size;
  uint32_t table_source;  // descriptor that takes the place of kAgentTable regions, or kNone
  Install installs[kMaxInstalls];
  uint8_t note[kMaxNote];  // written to Thread::note of the image
};
static_assert(sizeof(RestoreRequest) == 40 + 512 + 512);

struct MoreDescriptors {
  uint32_t magic;
  uint32_t count;
};

enum class Event : uint32_t { kForked = 1, kEntered = 2, kFailed = 3 };

struct RestoreReport {
  uint64_t id;
  uint32_t event;  // Event
  int32_t value;
  uint64_t address;  // where it failed, or 0
  char text[104];    // terminated
};
static_assert(sizeof(RestoreReport) == 128);

}  // namespace elsewhere::restore
