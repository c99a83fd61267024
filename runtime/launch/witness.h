// Was a signal sent to this process alone or to its whole group?
//
// A siginfo does not say. But a second process of the same group, which blocks every signal and does nothing,
// has got the signal too if the group was meant: the kernel sends to all members under one lock, and whoever
// has waited for that lock once sees all of it. The witness dies with its maker.
//
// Thread-safety: none. A witness that cannot be made or does not answer has seen nothing.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace elsewhere::runtime {

class Witness {
 public:
  Witness();  // forks; all signals that are asked about should be blocked already
  ~Witness();
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;

  // To be asked for every signal that this process takes: was it the group's?
  bool Saw(int signal);

 private:
  pid_t pid_ = -1;
  int socket_ = -1;
  uint64_t seen_ = 0;  // what the witness got and was not asked for
};

}  // namespace elsewhere::runtime
