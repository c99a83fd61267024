// The image of a process: what its deputy writes into a memfd (the *manifest*), what the home agent sends to
// a worker, and what the restorer maps. Byte layout in shim/wire/FORMAT.md; a reader that trusts nothing is
// in shim/wire/image_view.h.
//
// A manifest is one block: Header, then the sections it names, each an array of one fixed layout, 8-byte
// aligned. All numbers are little-endian, all addresses are those of the captured process, all strings are
// offsets into the strings section and end with a zero byte (offset 0 is the empty string).
//
// Who writes which field:
//   deputy         everything except what follows;
//   home agent     Chunk::source and Chunk::offset become (index into packs, offset in the pack); appends
//   packs;
//                  Identity::cpu_features;
//   worker agent   Chunk::source, Object::source, Descriptor::source and Region::source of the agent's table
//   become
//                  indices into the descriptors of the restore request; Chunk::offset is the offset in that
//                  file.
// These are patched in place: no section moves.
//
// Any change of a layout or of a meaning bumps kVersion. Plain C layouts, included by freestanding code.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

namespace elsewhere::image {

inline constexpr uint64_t kMagic = 0x31474d4957534c45;  // "ELSWIMG1"
inline constexpr uint32_t kVersion = 2;
inline constexpr uint32_t kNone = 0xffffffff;  // "no such index"
inline constexpr uint64_t kPageSize = 4096;
inline constexpr uint64_t kAddressLimit =
    0x7ffffffff000;  // end of user addresses with four-level page tables

// A chunk never crosses a window: an address range aligned to the window's size, inside one region.
inline constexpr uint64_t kSmallWindow = 64 << 10;
inline constexpr uint64_t kMiddleWindow = 256 << 10;  // regions of at least 8 MiB
inline constexpr uint64_t kLargeWindow = 1 << 20;     // regions of at least 64 MiB
inline constexpr uint64_t kMaxChunk = kLargeWindow;

inline constexpr uint64_t WindowSize(uint64_t region_size) {
  if (region_size < (8U << 20)) return kSmallWindow;
  return region_size < (64U << 20) ? kMiddleWindow : kLargeWindow;
}

// Limits: a manifest beyond one of them is refused by its writer (the child runs at home) and by every
// reader.
inline constexpr uint64_t kMaxManifest = 256 << 20;
inline constexpr uint32_t kMaxRegions = 65000;  // the kernel's default limit of mappings is 65530
inline constexpr uint32_t kMaxRuns = 1 << 20;
inline constexpr uint32_t kMaxChunks = 1 << 20;
inline constexpr uint32_t kMaxFiles = 16384;
inline constexpr uint32_t kMaxObjects = 4096;
inline constexpr uint32_t kMaxDescriptors = 65536;
inline constexpr uint32_t kMaxStrings = 8 << 20;  // bytes
inline constexpr uint32_t kMaxGroups = 65536;
inline constexpr uint32_t kMaxAuxv = 4096;  // bytes
inline constexpr uint32_t kMaxPacks = 1 << 20;
inline constexpr uint32_t kSignalCount = 64;
inline constexpr uint32_t kLimitCount = 16;  // RLIM_NLIMITS

enum class Section : uint32_t {
  kRegions,      // Region, sorted by address, not overlapping
  kRuns,         // Run, sorted by address, not overlapping, each inside one region
  kChunks,       // Chunk
  kFiles,        // File: what file-backed regions map
  kObjects,      // Object: what shared mappings map
  kDescriptors,  // Descriptor, sorted by number
  kStrings,      // bytes
  kGroups,       // uint32_t: supplementary group ids
  kAuxv,         // bytes: the auxiliary vector
  kPacks,        // Pack, appended by the home agent
  kCount,
};
inline constexpr uint32_t kSectionCount = static_cast<uint32_t>(Section::kCount);

struct SectionEntry {
  uint64_t offset;  // from the start of the manifest, multiple of 8
  uint32_t count;   // of entries
  uint32_t entry_size;
};
static_assert(sizeof(SectionEntry) == 16);

enum class RegionKind : uint32_t {
  kAnonymous = 0,   // private; what has no run reads as zeros
  kFile = 1,        // private mapping of `file`; runs are its written pages
  kStack = 2,       // the main thread's; restored with room to grow to the stack limit
  kHeap = 3,        // between start_brk and brk
  kVdso = 4,        // code and data pages of the kernel; `source` says which (VdsoPart)
  kShared = 5,      // MAP_SHARED of `object`
  kAgentTable = 6,  // the agent's table: the worker's takes its place
  kSharedFile = 7,  // MAP_SHARED of `file`, mapped again by path
};
inline constexpr uint32_t kRegionKindCount = 8;

enum class VdsoPart : uint32_t { kCode = 0, kData = 1, kClockData = 2 };

struct Region {
  uint64_t start;
  uint64_t end;
  uint64_t file_offset;  // bytes, of `file` or of `object`
  uint32_t protection;   // PROT_*
  uint32_t kind;         // RegionKind
  uint32_t file;         // index into files, or kNone
  uint32_t object;       // index into objects, or kNone
  uint32_t source;       // kAgentTable: descriptor of the restore request; kVdso: VdsoPart
  uint32_t reserved;
};
static_assert(sizeof(Region) == 48);

// Present pages: [address, address + length) holds bytes [offset, offset + length) of a chunk.
struct Run {
  uint64_t address;
  uint32_t length;  // bytes, a multiple of the page size
  uint32_t chunk;
  uint32_t offset;  // a multiple of the page size
  uint32_t reserved;
};
static_assert(sizeof(Run) == 24);

struct Chunk {
  uint64_t hash[2];  // XXH3-128, low half first: a hint, never an identity
  uint64_t offset;   // in the arena, later in the pack, later in the worker's cache file; page-aligned
  uint32_t length;   // bytes, a multiple of the page size, at most kMaxChunk
  uint32_t source;   // kNone while `offset` is one in the arena
};
static_assert(sizeof(Chunk) == 32);

struct Pack {
  uint8_t name[32];  // of the object in the store
  uint64_t size;
};
static_assert(sizeof(Pack) == 40);

// A file as it was at the capture. The restorer refuses one that differs.
struct File {
  uint64_t device;
  uint64_t inode;
  uint64_t size;
  int64_t modified_seconds;
  uint32_t modified_nanoseconds;
  uint32_t path;  // string
};
static_assert(sizeof(File) == 40);

// Memory that is shared between processes and named by no path.
struct Object {
  uint64_t device;
  uint64_t inode;
  uint64_t size;    // bytes that the captured process maps, from offset 0
  uint32_t path;    // string as /proc/PID/maps shows it
  uint32_t source;  // descriptor of the restore request; kNone: none was given
};
static_assert(sizeof(Object) == 32);

struct Descriptor {
  int32_t number;
  uint32_t mode;              // st_mode
  uint64_t device;            // st_dev
  uint64_t inode;             // st_ino
  uint64_t rdev;              // st_rdev
  uint64_t size;              // st_size
  int64_t offset;             // lseek(SEEK_CUR), or -1
  uint32_t flags;             // F_GETFL
  uint32_t descriptor_flags;  // F_GETFD
  uint32_t path;              // string: the link in /proc/self/fd
  uint32_t attached;          // position among the descriptors that follow the capture, or kNone
  uint32_t source;  // descriptor of the restore request that takes this number; kNone: leave it closed
  uint32_t reserved;
};
static_assert(sizeof(Descriptor) == 72);

// An end of a pipe or FIFO, or a socket.
inline bool IsStream(const Descriptor& descriptor) {
  const uint32_t type = descriptor.mode & S_IFMT;
  return type == S_IFIFO || type == S_IFSOCK;
}

// What a function call preserves, and where it returns to (System V ABI). Offsets are known to
// preload/context.S.
struct Registers {
  uint64_t rbx;
  uint64_t rbp;
  uint64_t r12;
  uint64_t r13;
  uint64_t r14;
  uint64_t r15;
  uint64_t rsp;  // after the return
  uint64_t rip;
  uint32_t mxcsr;
  uint16_t x87_control;
  uint16_t reserved;
};
static_assert(sizeof(Registers) == 72);
static_assert(offsetof(Registers, rip) == 56 && offsetof(Registers, mxcsr) == 64);

struct SignalAction {  // struct sigaction as the kernel has it
  uint64_t handler;
  uint64_t flags;
  uint64_t restorer;
  uint64_t mask;
};
static_assert(sizeof(SignalAction) == 32);

struct Limit {
  uint64_t soft;
  uint64_t hard;
};

// The thread that continues, and what the kernel keeps for it.
struct Thread {
  Registers registers;
  uint64_t fs_base;
  uint64_t gs_base;
  uint64_t tid_address;  // set_tid_address; the new thread id is written there
  uint64_t robust_list;
  uint64_t robust_list_size;
  uint64_t rseq;  // 0: not registered
  uint32_t rseq_size;
  uint32_t rseq_signature;
  uint64_t signal_stack;
  uint64_t signal_stack_size;
  uint32_t signal_stack_flags;
  uint32_t reserved;
  uint64_t enter;      // elsewhere_context_enter in the image: unmaps the restorer, then loads `registers`
  uint64_t note;       // where the restorer puts the request's note; 0: nowhere
  uint64_t note_size;  // room there
  uint64_t curbrk;     // address of libc's record of the break, for kernels without PR_SET_MM_MAP; 0: unknown
  uint64_t mapped_files;       // where the restorer says which files chunks are mapped from; 0: nowhere
  uint64_t mapped_file_limit;  // entries there; chunks of further files are copied
};
static_assert(sizeof(Thread) == 72 + 16 * 8);

// A file that anonymous memory of a restored process is mapped from: discarding such memory must give zeros,
// and the kernel would give the chunk again. The list ends with its limit or with an inode of 0.
struct MappedFile {
  uint64_t device;
  uint64_t inode;
};
static_assert(sizeof(MappedFile) == 16);

// prctl(PR_SET_MM_MAP) without its pointers.
struct MemoryMap {
  uint64_t start_code, end_code;
  uint64_t start_data, end_data;
  uint64_t start_brk, brk;
  uint64_t start_stack;
  uint64_t arg_start, arg_end;
  uint64_t env_start, env_end;
};
static_assert(sizeof(MemoryMap) == 88);

struct Identity {
  uint64_t cpu_features[8];  // bits that the image may rely on; meaning in shim/image/identity.h
  uint64_t vdso_hash[2];     // XXH3-128 of the vDSO's code
  uint64_t capabilities;     // effective
  uint32_t user[3];          // real, effective, saved
  uint32_t group[3];
  uint32_t mask;  // umask
  uint32_t personality;
  int32_t nice;
  uint32_t command;       // string: the thread's name
  uint32_t directory;     // string: working directory
  uint32_t executable;    // string: /proc/self/exe
  int32_t process;        // kernel pid of the deputy
  int32_t parent;         // and of its parent
  uint64_t affinity[16];  // 1024 processors
  Limit limits[kLimitCount];
};
static_assert(sizeof(Identity) == 64 + 16 + 8 + 56 + 128 + 256);

struct Totals {
  uint64_t pages;       // present pages that travel
  uint64_t zero_pages;  // present, all zero, left out
  uint64_t new_bytes;   // copied into the arena by this capture
  uint64_t new_chunks;
};

struct Header {
  uint64_t magic;
  uint32_t version;
  uint32_t header_size;
  uint64_t size;  // of the whole manifest
  SectionEntry sections[kSectionCount];
  Thread thread;
  MemoryMap memory;
  Identity identity;
  Totals totals;
  SignalAction actions[kSignalCount];  // [n - 1] is signal n's
};
static_assert(offsetof(Header, thread) % 8 == 0);
static_assert(sizeof(Header) % 8 == 0);

}  // namespace elsewhere::image
