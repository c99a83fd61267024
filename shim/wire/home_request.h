// Home calls that are no system call's: what a deputy does about its controlling terminal and its group.
//
// They travel as the number of abi::HomePacket, where system calls are not negative. A terminal is named by
// its device number as TIOCGDEV tells it. Freestanding.
#pragma once

#include <stdint.h>

namespace elsewhere::wire {

// ENOTTY: the terminal does not control the deputy.
enum class HomeRequest : int64_t {
  kForegroundGroup = -1,     // device. result: the group
  kSetForegroundGroup = -2,  // device, group
  kTerminalSession = -3,     // device. result: the session
  kInBackground = -4,        // device. result: 1 if the deputy's group is not the terminal's, else 0
  kJobSignal =
      -5,  // signal, for the deputy's whole group; EIO if that is orphaned and the kernel would discard it
  kTakeTerminal = -6,   // device, argument of TIOCSCTTY: it controls the deputy from now on
  kLeaveTerminal = -7,  // device: TIOCNOTTY
};

// "/dev/pts/4": the kernel's name of a device; false: of a kind that has no such name.
inline constexpr uint64_t kTerminalNameSize = 32;
inline bool NameTerminal(uint32_t device, char (&name)[kTerminalNameSize]) {
  constexpr uint32_t kPseudo = 136, kPseudoLast = 143, kConsoles = 4, kConsoleCount = 64;
  const uint32_t major = device >> 8 & 0xfff;
  uint32_t minor = (device & 0xff) | (device >> 12 & 0xfff00);
  const char* start = "/dev/pts/";
  if (major >= kPseudo && major <= kPseudoLast) {
    minor += (major - kPseudo) * 256;
  } else if (major == kConsoles) {
    start = minor < kConsoleCount ? "/dev/tty" : "/dev/ttyS";
    minor %= kConsoleCount;
  } else {
    return false;
  }
  char digits[12];
  uint32_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + minor % 10);
    minor /= 10;
  } while (minor != 0);
  char* to = name;
  while (*start != '\0') *to++ = *start++;
  while (count > 0) *to++ = digits[--count];
  *to = '\0';
  return true;
}

}  // namespace elsewhere::wire
