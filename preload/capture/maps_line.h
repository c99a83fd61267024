// One line of /proc/self/maps (man 5 proc). Freestanding.
#pragma once

#include <stdint.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

namespace elsewhere::capture {

struct MapsLine {
  uint64_t start;
  uint64_t end;
  uint64_t offset;
  uint64_t device;
  uint64_t inode;
  uint32_t protection;
  bool shared;
  const char* name;  // terminated; "" for anonymous memory
  uint64_t name_length;
};

inline uint64_t TakeNumber(const char** text, uint64_t base) {
  uint64_t value = 0;
  for (;; ++*text) {
    const char c = **text;
    uint64_t digit;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint64_t>(c - '0');
    } else if (base == 16 && c >= 'a' && c <= 'f') {
      digit = static_cast<uint64_t>(c - 'a') + 10;
    } else {
      return value;
    }
    value = value * base + digit;
  }
}

// `end` is where the line's newline was; a zero stands there now.
inline MapsLine ParseMapsLine(const char* text, const char* end) {
  MapsLine line{};
  line.start = TakeNumber(&text, 16);
  ++text;
  line.end = TakeNumber(&text, 16);
  ++text;
  line.protection = (text[0] == 'r' ? PROT_READ : 0U) | (text[1] == 'w' ? PROT_WRITE : 0U) |
                    (text[2] == 'x' ? PROT_EXEC : 0U);
  line.shared = text[3] == 's';
  text += 5;
  line.offset = TakeNumber(&text, 16);
  ++text;
  const auto major = static_cast<unsigned>(TakeNumber(&text, 16));
  ++text;
  const auto minor = static_cast<unsigned>(TakeNumber(&text, 16));
  ++text;
  line.device = makedev(major, minor);
  line.inode = TakeNumber(&text, 10);
  while (*text == ' ') ++text;
  line.name = text;
  line.name_length = static_cast<uint64_t>(end - text);
  return line;
}

}  // namespace elsewhere::capture
