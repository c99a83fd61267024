// What a restored process inherits from the zygote. Private to runtime/restorer.
#pragma once

#include "shim/wire/image.h"
#include "shim/wire/restore_request.h"

namespace elsewhere::restorer {

inline constexpr int kSocket = 3;  // the agent's connection, where the agent puts it

struct VdsoMapping {
  uint64_t address;  // where it is parked
  uint64_t original;
  uint64_t size;
};

struct Zygote {
  VdsoMapping vdso[3];  // by image::VdsoPart; size 0: this kernel has none
  uint64_t vdso_hash[2];
};

// Makes this process nothing but the restorer: own pages anonymous, vDSO parked, everything else unmapped.
bool Settle(Zygote* zygote);

// A request with its descriptors.
struct Job {
  restore::RestoreRequest request;
  uint32_t received;  // descriptors so far
  int descriptors[restore::kMaxDescriptors];
};

enum class Received { kJob, kMalformed, kClosed };
Received Receive(Job* job);

void Report(int socket, uint64_t id, restore::Event event, int value, uint64_t address, const char* text);

}  // namespace elsewhere::restorer
