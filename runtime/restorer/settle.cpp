// Turns a freshly executed program into a zygote whose address space holds nothing but itself.
//
// 1. Its own file-backed pages become anonymous copies at the same addresses: the kernel refuses to change
//    /proc/PID/exe (PR_SET_MM_MAP) while the old executable is mapped.
// 2. The kernel's [vvar], [vvar_vclock] and [vdso] move to a parking place in our zone; each child moves them
// to
//    where its image has them. They cannot be made again once lost.
// 3. Everything else goes: the stack, whose address an image may need.

#include <fcntl.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#define XXH_NO_STDLIB
#include <xxhash.h>

#include "runtime/restorer/layout.h"
#include "runtime/restorer/zygote.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::restorer {
namespace {

char maps[32 << 10];

uint64_t TakeHex(const char** text) {
  uint64_t value = 0;
  for (;; ++*text) {
    const char c = **text;
    if (c >= '0' && c <= '9') {
      value = value << 4 | static_cast<uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      value = value << 4 | static_cast<uint64_t>(c - 'a' + 10);
    } else {
      return value;
    }
  }
}

bool EndsWith(const char* start, const char* end, const char* suffix) {
  const uint64_t length = raw::Length(suffix);
  if (static_cast<uint64_t>(end - start) < length) return false;
  for (uint64_t i = 0; i < length; ++i) {
    if (*(end - length + i) != suffix[i]) return false;
  }
  return true;
}

// The same bytes at the same place, but anonymous. This may replace the page that runs: its contents do not
// change.
bool MakeAnonymous(uint64_t start, uint64_t size, int protection) {
  const long copy = raw::Syscall(SYS_mmap, kTemporary, raw::Word(size), PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (raw::Failed(copy)) return false;
  __builtin_memcpy(reinterpret_cast<void*>(copy), reinterpret_cast<const void*>(start), size);
  if (raw::Failed(raw::Syscall(SYS_mprotect, copy, raw::Word(size), protection))) return false;
  return !raw::Failed(raw::Syscall(SYS_mremap, copy, raw::Word(size), raw::Word(size),
                                   MREMAP_MAYMOVE | MREMAP_FIXED, raw::Word(start)));
}

bool Park(VdsoMapping* mapping, uint64_t start, uint64_t size, uint64_t* next) {
  const long moved = raw::Syscall(SYS_mremap, raw::Word(start), raw::Word(size), raw::Word(size),
                                  MREMAP_MAYMOVE | MREMAP_FIXED, raw::Word(*next));
  if (raw::Failed(moved)) return false;
  *mapping = {*next, start, size};
  *next += size;
  return true;
}

bool HandleLine(Zygote* zygote, const char* line, const char* end, uint64_t* parking) {
  const char* text = line;
  const uint64_t start = TakeHex(&text);
  ++text;
  const uint64_t size = TakeHex(&text) - start;
  ++text;
  if (start >= kProgram && start < kTemporary) {
    const bool from_file = !EndsWith(line, end, " 00:00 0 ") && !EndsWith(line, end, " 00:00 0");
    const int protection = (text[0] == 'r' ? PROT_READ : 0) | (text[1] == 'w' ? PROT_WRITE : 0) |
                           (text[2] == 'x' ? PROT_EXEC : 0);
    return !from_file || EndsWith(line, end, "[heap]") || MakeAnonymous(start, size, protection);
  }
  if (EndsWith(line, end, "[vdso]")) return Park(&zygote->vdso[0], start, size, parking);
  if (EndsWith(line, end, "[vvar]")) return Park(&zygote->vdso[1], start, size, parking);
  if (EndsWith(line, end, "[vvar_vclock]")) return Park(&zygote->vdso[2], start, size, parking);
  return true;
}

// All lines are read before the first is acted on: a new program has few.
bool ReadMaps(uint64_t* filled) {
  const long file = raw::Syscall(SYS_open, raw::Address("/proc/self/maps"), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(file)) return false;
  long got;
  do {
    got = raw::Read(static_cast<int>(file), maps + *filled, sizeof(maps) - *filled);
    if (got > 0) *filled += static_cast<uint64_t>(got);
  } while (got > 0);
  raw::Close(static_cast<int>(file));
  return got == 0 && *filled < sizeof(maps);
}

void HashVdso(Zygote* zygote) {
  const VdsoMapping& code = zygote->vdso[0];
  if (code.size == 0) return;
  const XXH128_hash_t hash = XXH3_128bits(reinterpret_cast<const void*>(code.address), code.size);
  zygote->vdso_hash[0] = hash.low64;
  zygote->vdso_hash[1] = hash.high64;
}

}  // namespace

bool Settle(Zygote* zygote) {
  uint64_t filled = 0;
  if (!ReadMaps(&filled)) return false;
  uint64_t parking = kVdsoParking;
  for (uint64_t start = 0, at = 0; at < filled; ++at) {
    if (maps[at] != '\n') continue;
    if (!HandleLine(zygote, maps + start, maps + at, &parking)) return false;
    start = at + 1;
  }
  HashVdso(zygote);
  raw::Syscall(SYS_munmap, 0, raw::Word(kZoneStart));
  raw::Syscall(SYS_munmap, raw::Word(kZoneEnd), raw::Word(image::kAddressLimit - kZoneEnd));
  return true;
}

}  // namespace elsewhere::restorer
