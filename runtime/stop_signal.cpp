#include "runtime/stop_signal.h"

#include <csignal>
#include <cstdint>
#include <fstream>
#include <string>

namespace elsewhere::runtime {

int EffectiveSignal(pid_t pid, int signal) {
  if (signal != SIGTSTP && signal != SIGTTIN && signal != SIGTTOU) return signal;
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  uint64_t not_default = 0;
  for (std::string name, value; file >> name && std::getline(file, value);) {
    if (name == "SigBlk:" || name == "SigIgn:" || name == "SigCgt:")
      not_default |= std::stoull(value, nullptr, 16);
  }
  return (not_default >> (signal - 1) & 1) != 0 ? signal : SIGSTOP;
}

}  // namespace elsewhere::runtime
