// What this machine and its kernel offer, found out by trying. For `elsewhere doctor`.
// Everything here is harmless to the caller and leaves nothing behind. Thread-safety: none; probes fork.
#pragma once

#include <string>
#include <vector>

namespace elsewhere::runtime {

enum class Verdict {
  kOk,
  kDegraded,  // elsewhere works without it; `then` says how
  kMissing,   // elsewhere cannot run without it; `then` says what to do
};

struct Finding {
  Verdict verdict = Verdict::kOk;
  std::string what;
  std::string seen;  // the value found
  std::string then;  // what happens, or what to do; empty when ok
};

std::vector<Finding> ProbeHost();

}  // namespace elsewhere::runtime
