// The contract between the preload (inside every process of a session) and the agent of its host.
//
// Three ways of talking, each for what it is good at:
//   1. The *table*: one shared-memory object per host, created by the agent, mapped by the processes that
//   need it. A
//      process makes a *call* by claiming a slot in it, filling it in, setting its pending bit and ringing
//      the doorbell (an eventfd); it then waits on the slot's futex. No lock is taken and no memory is
//      allocated, so a hook of an async-signal-safe function stays one. A process that dies leaves at most
//      claimed slots behind; the agent frees them when the process's pidfd becomes readable.
//   2. The *connection*: a SOCK_SEQPACKET Unix socket per process, for what needs descriptors or must end
//   with the
//      process: registration, a deputy's capture, and everything that a deputy does afterwards.
//   3. The *environment*, which names the agent's socket to a program that was just started.
//
// Plain C layouts only: this header is included by freestanding code. Any change of a layout, a number or the
// meaning of a field bumps kAbiVersion: preload and agent of different versions refuse each other with a
// message.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <atomic>

#include "shim/wire/file_call.h"

namespace elsewhere::abi {

inline constexpr uint32_t kAbiVersion = 28;

// ---- Environment
// ----------------------------------------------------------------------------------------------

inline constexpr char kEnvAgent[] = "ELSEWHERE_AGENT";  // path of this host's agent socket
inline constexpr char kEnvSession[] =
    "ELSEWHERE_SESSION";  // session id, 32 hex digits; marks our processes in /proc
inline constexpr char kEnvLifeline[] = "ELSEWHERE_LIFELINE";  // descriptor number of the lifeline's write end
inline constexpr char kEnvHost[] = "ELSEWHERE_HOST";          // number of this host; absent or "0": home
inline constexpr char kEnvFork[] = "ELSEWHERE_FORK";          // "remote" (default) or "local"
inline constexpr char kEnvPreload[] = "LD_PRELOAD";
// Mapped directories, one per line, in the order of their numbers; absolute and normalised.
inline constexpr char kEnvMaps[] = "ELSEWHERE_MAPS";

// Descriptors of ours sit at or above this number, counted down from the soft limit's end where that is
// lower, so that they never take a number that the program would have got.
inline constexpr int kFirstOwnDescriptor = 1000;

// ---- The table
// --------------------------------------------------------------------------------------------------

inline constexpr uint32_t kTableMagic = 0x45544231;  // "1BTE"
inline constexpr uint32_t kSlotCount = 16384;
inline constexpr uint32_t kProcessCount = 32768;  // open addressing; at most half full
inline constexpr uint32_t kCellCount = 65536;     // cells of named semaphores
inline constexpr uint32_t kSocketPathSize = 108;

enum class SlotState : uint32_t {
  kFree = 0,
  kClaimed = 1,    // by the process in `owner`; being filled in
  kPending = 2,    // handed to the agent, the caller waits
  kCancelled = 3,  // a signal came: the caller wants the call undone, but still waits for the final answer
  kDone = 4,       // result is valid; the caller reads it and sets kFree
};

enum class Operation : uint32_t {
  kNone = 0,
  // Process family.
  kWhoAmI = 1,      // a nested child asks for its session pid. result: pid. Blocks until its deputy exists.
  kNestedFork = 2,  // arguments: kernel pid of the child. result: session pid of the child, or -1 and error.
  kHomeCall = 3,  // arguments: system call number, then up to 5 integer arguments; run by the caller's deputy
                  // at home.
  kKill = 4,  // arguments: session pid, signal. For targets on this host: the agent notes who sent a SIGKILL.
  kUsage = 5,  // arguments: session pid. payload: struct rusage of that ended remote child. error ESRCH: not
               // remote.
  kChildrenUsage =
      6,        // payload: struct rusage summed over the caller's ended and waited-for remote children.
  kParent = 7,  // result: session pid of the caller's parent, as home's kernel sees it now.
  kNote = 8,  // payload: one line for the end-of-run summary (why something ran at home). No answer is waited
              // for.
  kStopped = 9,  // arguments: session pid of a child that its parent has seen stopped. Returns when it is
                 // stopped where it runs too.
  kKilled = 10,  // arguments: session pid of a child that its parent has seen killed. Returns when nothing of
                 // it runs any more.
  // Descriptor family. A description is named by the (device, inode) of the local kernel object that stands
  // for it.
  kPull = 16,   // arguments: dev, ino, bytes wanted, 1 = do not wait, 2 = more than is here, 3 = both; with
                // kPullContinues, kPullStays or without; or kPullBack alone. result: bytes now readable here,
                // 0 at end of file; error wire::kPipeHasMoved, payload wire::MovedPipe.
  kWatch = 17,  // arguments: dev, ino, 1 = once, 2 = until closed, 0 = disarm once, 4 = disarm, 3 = ask;
                // kWatchAnswers, kWatchStays. result: POLL* bits. Readable at its origin -> readable here.
  kForward = 18,  // arguments: dev, ino. Sends what was written as far as there is room. result: 1: there is
                  // more, 0: writers wait.
  kSeek =
      19,  // arguments: dev, ino, offset, whence: lseek on a file that is drained to home. result: offset.
  kStat = 20,   // arguments: dev, ino. payload: struct stat of the object at its origin.
  kIoctl = 21,  // arguments: dev, ino, request; payload: argument in and out (terminal attributes and size).
  kAtOrigin = 22,   // arguments: dev, ino, wire::StreamCall, then its three arguments.
  kAdopt = 23,      // arguments: dev, ino: the caller got this descriptor from another process.
  kPassable = 24,   // payload: int32_t descriptors of the caller. -1: one of them cannot be passed to another
                    // host; error says why.
  kKeepPlace = 25,  // arguments: dev, ino, 1 = begin, 0 = end: while a process changes flags of its
                    // description of a pipe's write end, the pipe is not moved.
  kShutDown = 26,   // the caller has shut down a socket of this host. Returns when the hosts that have it, or
                    // its peer, were told.
  kListenerClosed = 27,  // the caller has closed a listening socket. Returns when the hosts that have such
                         // sockets have closed what nobody holds any more.
  // IPC family. Semaphores: argument 0 is the object id found in the promoted word.
  kSemOpen = 32,    // arguments: flags, mode, value; payload: name. result: index of the cell.
  kSemClose = 33,   // arguments: cell.
  kSemUnlink = 34,  // payload: name.
  kSemWait = 35,    // arguments: object, clock (-1: none), seconds, nanoseconds of the absolute deadline.
  kSemTryWait = 36,
  kSemPost = 37,
  kSemGetValue = 38,
  // A process-shared semaphore is made in shared memory. arguments: the object's first host, device and inode
  // there, offset, value. result: 0: nobody on another host has this memory; else the object to promote the
  // word with.
  kSemInit = 40,
  kSemInherit =
      41,  // arguments: kernel pid of a child, 1 in the last call for it. payload: uint32_t cells it holds.
  kSemDestroy = 42,
  kSemSettle = 43,  // of a lent semaphore: what its posters wrote before their posts has been sent
  // Calls of home's kernel with memory (struct KernelCall): message queues, System V objects. What is larger
  // than a slot goes through a bulk buffer, and in pieces. arguments: bulk buffer or -1 (the slot's payload),
  // bytes in it, number of the call (the caller's own choice, unique in its process).
  kKernelData = 48,   // the next piece of a call
  kKernelCall = 49,   // its last piece. result: the kernel's. payload: uint32_t size of the answer; then, or
                      // in the bulk buffer, its first piece
  kKernelFetch = 50,  // the next piece of its answer. result: bytes
  kSegment = 51,  // arguments: id of a System V segment that the caller's deputy has attached. result: token
                  // for Role::kFetch; payload: device and inode of the object at home.
                  // At home: a segment was detached or marked for removal
  kSegmentPlace = 52,  // arguments: device and inode of a local object. result: 0: it stands for a segment of
                       // home's; payload: device and inode there. -1: it does not
  kQueueHome = 53,     // at home. arguments: inode of a message queue. Returns when what is in it is here
  kSegmentLetGo = 54,  // arguments: device and inode of an object. Returns when the agent does not map it on
                       // behalf of processes that have ended.
  kSegmentOfFile = 55,  // payload: wire::SharedFile, as home has shared it; arguments: 1: to be read only.
                        // result: token for Role::kFetch, for a descriptor of this host's copy
  // Mapped files. Arguments 0 and 1: device and inode of the local file. EBADF: it is none.
  kFileFind = 64,      // result: number of its FileEntry, from 1; 0: it has none
  kFileFetch = 65,     // arguments: offset, length (-1: to the end). Returns when the range is there.
  kFileWritten = 66,   // arguments: offset, length: overwritten below FileEntry::known_size
  kFileGrew = 67,      // it has grown beyond FileEntry::notify_at
  kFileFlush = 68,     // returns when everything is in the store, or why it is not
  kFileTruncate = 69,  // arguments: size
  kFileStatus = 70,    // payload: FileStatus
  kFileSetMode = 71,   // arguments: mode
  kFileSetOwner = 72,  // arguments: user, group; -1: as it is
  kFileSetTimes = 73,  // arguments: atime, mtime in nanoseconds; kTimeOmitted: as it is
  kFileClosed = 74,    // a descriptor of it was closed. No answer is waited for.
  kFileUnseen =
      75,  // it will be written where no hook sees it: everything is fetched, changes are looked for
  kFileFlushAll = 76,  // no arguments: everything that was written on this host
  // arguments: FileLockCommand, FileLockKind, FileLockType, from, to (FileLock). payload of kGet: FileLock
  kFileLock = 77,
  // Process-shared pthread objects (shim/wire/shared_object.h).
  // One is made in shared memory. arguments: SharedKind, the object's first host, device and inode there,
  // offset, flags, count. result: 0: nobody on another host has this memory; else the object to promote with.
  kSharedMake = 96,
  // An operation on a promoted one. arguments: object, SharedAction, argument, clock (-1: none), seconds,
  // nanoseconds of the absolute deadline, 1 = do not wait for an answer. result: of the action.
  kSharedAct = 97,
  // Publish what the caller wrote to shared memory and streams. argument: kFenceHome.
  kFence = 39,
};
// It is over when home has that, and this host has applied what home knew then.
inline constexpr int64_t kFenceHome = 1;

// A pull that goes on where the caller's last one ended: cancelled, it keeps bytes that came nevertheless.
inline constexpr int64_t kPullContinues = 4;
// The caller cannot replace its descriptor: where the pipe has moved here, its bytes come as before.
inline constexpr int64_t kPullStays = 16;
// What kWatch's last argument has: wait for the origin's answer; as kPullStays.
inline constexpr int64_t kWatchAnswers = 1;
inline constexpr int64_t kWatchStays = 2;
// In place of a pull: bytes of a pipe that are here unread go back to their origin.
inline constexpr int64_t kPullBack = 8;

inline constexpr uint32_t kSlotPayload = 384;

// A set of descriptors that were written to: a bit for each number, the last one for all that have no other;
// and whether some are of objects that may be full at their origins (pipes and sockets), so that what was
// sent need not be in.
inline constexpr int kWroteNumbers = 62;
inline constexpr uint64_t kWroteAhead = uint64_t{1} << 62;
inline constexpr uint64_t kWroteAny = uint64_t{1} << 63;
inline constexpr uint64_t WroteTo(int fd, bool ahead) {
  return (fd >= 0 && fd < kWroteNumbers ? uint64_t{1} << fd : kWroteAny) | (ahead ? kWroteAhead : 0);
}

// One call. `state` is the futex the caller waits on; every other field belongs to whoever `state` says.
struct alignas(64) Slot {
  std::atomic<uint32_t> state;
  uint32_t operation;
  int32_t owner;   // kernel pid of the calling process
  int32_t thread;  // kernel tid of the calling thread
  int64_t arguments[8];
  int64_t result;
  int32_t error;  // errno value when result is -1
  uint32_t payload_size;
  uint8_t payload[kSlotPayload];
  uint64_t ticket;   // in which order calls were made
  uint64_t wrote;    // what the thread has written to objects elsewhere through and not released since
                     // (WroteTo); in the answer 0 where the call has released it
  uint32_t unheard;  // 1: nobody waits for the answer, the agent frees the slot; the call is taken before all
                     // calls that are waited for
  uint8_t reserved[4];
};
static_assert(sizeof(Slot) == 512);

// Who is who on this host. Written by the agent only; read without a lock: kernel_pid is stored last and
// cleared first.
struct ProcessEntry {
  std::atomic<int32_t> kernel_pid;   // in this host's pid namespace; 0: never used, -1: removed
  std::atomic<int32_t> session_pid;  // home's pid namespace
  std::atomic<uint64_t> incarnation;
};
static_assert(sizeof(ProcessEntry) == 16);

// A named semaphore's sem_t points into a cell's `word` (layout: shim/wire/semaphore.h). Home's agent hands
// cells out; a semaphore has the same cell on every host. The last cells are for what is lent to this host,
// as wide as they are (shim/wire/lease.h).
struct alignas(64) Cell {
  uint8_t word[32];
  uint8_t reserved[32];
};
static_assert(sizeof(Cell) == 64);

inline constexpr uint32_t kAttachedSegments = 256;

struct alignas(4096) TableHeader {
  uint32_t magic;
  uint32_t version;
  uint64_t session[2];
  uint32_t host;  // 0: home
  int32_t agent_pid;
  uint32_t fork_remote;                // 1: fork() makes remote children
  uint32_t count_objects;              // 1: ObjectCounts are wanted
  char agent_socket[kSocketPathSize];  // where a process of this host registers
  // Home: ids + 1 of System V segments that the agent has attached itself (runtime/ipc/attached_segment.h).
  alignas(64) std::atomic<int32_t> attached_segments[kAttachedSegments];
  alignas(64) std::atomic<uint32_t> ending;  // the session is over: start nothing new
  alignas(64) std::atomic<uint64_t> slot_hint;
  // 1: the agent sleeps, or is about to: whoever makes it 0 rings the doorbell. What is pending before that
  // is found without.
  alignas(64) std::atomic<uint32_t> asleep;
  std::atomic<uint32_t> hear_posts;  // 1: a semaphore's count may come near its maximum, posts are waited for
  std::atomic<uint32_t> record_locks;  // 1: processes of this host have or had some on mapped files
  // 1: before and behind flock of a mapped file the agent is asked, for other hosts lock such files, too.
  std::atomic<uint32_t> flocks_ask;
  std::atomic<uint32_t> queues_stay;   // 1: there are more message queues at home than cells, so none is lent
  std::atomic<uint32_t> files_mapped;  // 1: memory of this host has or had what is in files at their origins
  std::atomic<uint32_t> shared_sockets;  // 1: other hosts have or had sockets of this one
  std::atomic<uint32_t> memory_shared;   // 1: with other hosts
  alignas(64)
      std::atomic<uint64_t> pending_summary[kSlotCount / 64 / 64];  // bit: that word of `pending` may be set
  std::atomic<uint64_t> pending[kSlotCount / 64];
};

// Room for what is larger than a slot. Claimed by a process for one call; the agent frees those of the dead.
inline constexpr uint32_t kBulkCount = 64;
inline constexpr uint32_t kBulkBytes = 65536;
struct alignas(4096) Bulk {
  std::atomic<int32_t> owner;  // kernel pid; 0: free
  alignas(64) uint8_t bytes[kBulkBytes];
};

// What processes did with one object that they share (runtime/object_counts.h).
enum class ObjectKind : uint32_t {
  kOther = 0,  // objects for which there was no room
  kSemaphore = 1,
  kMutex = 2,
  kCondition = 3,
  kReadWriteLock = 4,
  kBarrier = 5,
  kSpinLock = 6,
  kMessageQueue = 7,
  kSystemVQueue = 8,
  kSystemVSemaphores = 9,
  kPipe = 10,
  kSocket = 11,
  kTerminal = 12,
  kFile = 13,
  kEvent = 14,
  kTimer = 15,
  kListener = 16,
};

inline constexpr uint32_t kNamedCell = 0xffffffff;

// Home: a message queue that processes at home use, by the inode of the kernel's object
// (preload/home_queue.h, runtime/ipc/queue_leases.h). Claimed by whoever uses it first, for the session.
struct alignas(64) QueueCell {
  std::atomic<uint64_t> inode;         // 0: free
  std::atomic<uint32_t> inside;        // calls of processes at home that are being made
  std::atomic<uint32_t> state;         // kQueueAway and its like
  std::atomic<uint32_t> uses;          // how many such calls there were
  std::atomic<uint32_t> inside_sends;  // the same of sends alone
  std::atomic<uint32_t> sends;
};
static_assert(sizeof(QueueCell) == 64);
inline constexpr uint32_t kQueueAway = 1;       // what is in it is lent to another host: ask for it, wait
inline constexpr uint32_t kQueuePinned = 2;     // it is used in ways that only home's kernel knows
inline constexpr uint32_t kQueueRightAway = 4;  // another host alone may send to it: who wants to asks, waits
inline constexpr uint32_t kQueueCells = 1024;

// An entry is filled in by whoever claims it (0 to 1, then 2) and belongs to that object for the session.
struct alignas(64) ObjectCount {
  std::atomic<uint32_t> state;  // 0: free, 1: being filled in, 2: valid
  uint32_t kind;                // ObjectKind
  // In shared memory: the object as its first host numbers it. kNamedCell: `offset` is the cell of a named
  // semaphore.
  uint32_t host;
  uint32_t reserved;
  uint64_t device;
  uint64_t inode;
  uint64_t offset;
  std::atomic<uint64_t> here;     // operations within this host
  std::atomic<uint64_t> across;   // that went to the agent
  std::atomic<uint64_t> blocked;  // nanoseconds in both
};
static_assert(sizeof(ObjectCount) == 64);
inline constexpr uint32_t kObjectCounts = 4096;  // the last one is for those that find no other

struct Table {
  TableHeader header;
  Slot slots[kSlotCount];
  ProcessEntry processes[kProcessCount];
  Cell cells[kCellCount];
  Bulk bulks[kBulkCount];
  FileEntry files[kFileCount];
  ObjectCount object_counts[kObjectCounts];
  QueueCell queue_cells[kQueueCells];
};
static_assert(offsetof(Table, slots) % 4096 == 0);

inline constexpr uint32_t ProcessHash(int32_t pid) {
  return (static_cast<uint32_t>(pid) * 2654435761U) % kProcessCount;
}

// nullptr: there is no room for another one. Any side may come first.
inline QueueCell* FindQueueCell(Table* table, uint64_t inode) {
  for (uint32_t look = 0; look < kQueueCells; ++look) {
    QueueCell& cell = table->queue_cells[(inode + look) % kQueueCells];
    uint64_t found = cell.inode.load(std::memory_order_acquire);
    if (found == 0 && cell.inode.compare_exchange_strong(found, inode)) return &cell;
    if (found == inode) return &cell;
  }
  return nullptr;
}

// ---- The connection
// ---------------------------------------------------------------------------------------------

enum class Packet : uint32_t {
  // process -> agent
  kHello = 1,  // first packet on every connection: struct Hello; a deputy's descriptor: its signal watch
  kCapture =
      2,        // struct Capture; descriptors: manifest memfd, then those whose entry in the manifest says so
  kSignal = 3,  // struct SignalPacket: the deputy received this one
  kHomeResult = 4,    // struct HomePacket
  kRunsLocally = 5,   // struct Refused: the deputy is the child now; answer to kRunLocal, or unasked before a
                      // capture with the reason why there is none
  kKernelAnswer = 6,  // struct KernelAnswer and its bytes
  kKernelEvent = 7,   // struct KernelEvent: of a queue that is watched or notifies
  kFileCall = 8,      // struct FileRequest; answered by one struct FileAnswer on the same connection
  kHasLetGo = 9,      // a header: answer to kLetGo
  // agent -> process
  kWelcome =
      16,  // struct Welcome; descriptors: table memfd, doorbell eventfd, then for a deputy the arena memfd
  kRefused = 17,     // struct Refused: versions differ, or the session is ending
  kRunLocal = 18,    // struct Refused with the reason: the deputy must return from fork and be the child
  kStarted = 19,     // the child runs elsewhere: the deputy becomes a proxy
  kHomeCall = 20,    // struct HomePacket: make this system call
  kForkDeputy = 21,  // struct ForkPacket: fork another deputy, for a nested fork; it connects with that token
  kExit = 22,        // struct ExitPacket: end like this
  kKernelCall = 24,  // struct KernelPacket and its bytes; a descriptor: the memory, where it is large
  kKernelCancel = 25,  // struct KernelCancel: its caller got a signal
  kStop = 23,          // struct StopPacket: the remote process stopped, so does the deputy
  kLetGo = 26,         // a header: the agent has the ends of pipes and sockets that the capture brought; the
                       // deputy closes its own. kRunLocal brings them back, kDescriptorsPerPacket in each
};

inline constexpr uint32_t kDescriptorsPerPacket = 250;

// kFetch: its welcome brings the one descriptor that the token stands for.
enum class Role : uint32_t { kProcess = 0, kDeputy = 1, kNestedDeputy = 2, kFetch = 3 };

struct PacketHeader {
  uint32_t type;  // Packet
  uint32_t size;  // of the whole packet
};

struct Hello {
  PacketHeader header;
  uint32_t version;
  uint32_t role;   // Role
  int32_t pid;     // kernel pid (the agent checks it against SO_PEERCRED)
  int32_t parent;  // kernel pid of the parent at the fork; 0 for a process that was started by exec
  uint64_t token;  // nested deputy: from ForkPacket; fetch: the answer of a call
};

struct Welcome {
  PacketHeader header;
  uint32_t version;
  uint32_t host;
};

inline constexpr uint32_t kReasonSize = 240;
struct Refused {
  PacketHeader header;
  char reason[kReasonSize];  // one line, terminated
};

struct Capture {
  PacketHeader header;
  uint64_t manifest_size;
  uint32_t descriptor_count;  // kDescriptorsPerPacket follow the memfd in this packet, and each of the next
  uint32_t reserved;
  uint64_t fork_nanoseconds;     // CLOCK_MONOTONIC when fork was called
  uint64_t capture_nanoseconds;  // what the capture took
};

struct SignalPacket {
  PacketHeader header;
  int32_t signal;
  int32_t code;    // si_code
  int32_t sender;  // si_pid
  uint32_t user;   // si_uid
  uint64_t value;  // si_value
};

struct HomePacket {
  PacketHeader header;
  uint64_t id;  // echoed in the result
  int64_t number;
  int64_t arguments[6];
  int64_t result;  // as the kernel returns it: negative errno on failure
};

// A system call with memory. Its memory is one block: `data` bytes are given, the others are zero. An
// argument whose bit is set in `pointers` is an offset into it. Where the call succeeds, the first `answer`
// bytes come back, and as many more as the result says where `grows` is set.
struct KernelCall {
  int64_t number;  // SYS_*, or one of DeputyCall
  int64_t arguments[6];
  uint32_t pointers;
  uint32_t data;
  uint32_t memory;
  uint32_t answer;
  uint32_t grows;
  uint32_t waits;  // 1: of a message queue, must wait with a limit, which is done at home only
};
static_assert(sizeof(KernelCall) == 80);

inline constexpr uint32_t kMostKernelMemory = 17 << 20;  // a queue's message is at most 16 MiB
inline constexpr uint32_t kInlineKernelMemory = 32768;   // more travels between agent and deputy in a memfd

inline constexpr uint32_t kMostAttached = 48;  // System V segments of a process with remote children

// What a deputy does besides system calls.
enum class DeputyCall : int64_t {
  kOpenQueue = 1 << 20,  // arguments: name, flags, mode, attributes, the number that the descriptor must get
  kDuplicate,            // arguments: descriptor, the number for the copy, flags of dup3
  kClose,                // arguments: descriptor
  kWatchQueue,           // arguments: descriptor. result: POLL* bits; changes are told from now on
  kExecuted,             // the process has executed a program: what an exec ends ends
  kReadFile,             // arguments: path, offset, bytes, where to. result: bytes
  kListDirectory,        // arguments: path, bytes, where to. result: bytes of struct linux_dirent64
};

struct KernelPacket {
  PacketHeader header;
  uint64_t id;  // echoed in the answer
  KernelCall call;
};
struct KernelAnswer {
  PacketHeader header;
  uint64_t id;
  int64_t result;  // negative errno on failure
};
struct KernelCancel {
  PacketHeader header;
  uint64_t id;
};
inline constexpr uint32_t kQueueNotified = 1U << 31;
struct KernelEvent {
  PacketHeader header;
  int32_t descriptor;
  uint32_t state;  // POLL* bits, or kQueueNotified
};

struct ForkPacket {
  PacketHeader header;
  uint64_t token;
};

struct StopPacket {
  PacketHeader header;
  int32_t signal;
  uint32_t continues;  // SIGCONTs of the deputy that the process had got before: a later one undoes the stop
};

struct ExitPacket {
  PacketHeader header;
  int32_t status;  // as waitpid gives it
  int32_t reserved;
};

// ---- What a restored process is told
// -----------------------------------------------------------------------------------

// The restorer copies this to image::Thread::note before the image continues. The worker's table is mapped
// where the image had its own; everything else that differs on the new host is here. Variables that the image
// holds about its old host (agent socket, doorbell, connection) are replaced by these.
inline constexpr uint32_t kRestoreNoteMagic = 0x4e545345;  // "ESTN"
struct RestoreNote {
  uint32_t magic;
  uint32_t version;  // kAbiVersion
  uint64_t incarnation;
  uint32_t host;
  int32_t session_pid;         // what getpid() answers
  int32_t parent_session_pid;  // at the fork
  int32_t doorbell;            // number under which the host's doorbell eventfd was installed
  char agent_socket[kSocketPathSize];
};
static_assert(sizeof(RestoreNote) <= 512);

}  // namespace elsewhere::abi
