// The kernel object that stands on this host for a stream of another: pipe, socketpair or pseudo-terminal.
// The agent holds one end, processes the other, so that everything a program may do with a descriptor (poll,
// dup, inherit, pass on, write without libc) is the kernel's.
//
//  - Write end of a pipe, output file: a pipe in packet mode, so that the borders of small writes survive.
//    Each job gets a new open file description of the same pipe, so the agent keeps no writer and sees
//    the last one go (POLLHUP).
//  - Read end of a pipe: a pipe whose writer is the agent. It is empty until bytes were asked for. poll and
//    epoll must be able to see "readable at its origin" without a byte being moved here, because a byte moved
//    here could be missed by a reader elsewhere: for that time the agent closes its writer, which the kernel
//    reports as POLLHUP, and opens the pipe again (through an O_PATH descriptor) before anything else
//    happens.
//  - Socket: a socketpair, one for each job, for a socket cannot be opened again. It is of the same type, but
//  of
//    datagrams one that tells when its other end is closed (SOCK_SEQPACKET).
//  - Event counter: a socketpair of records. Values that processes write come out at the agent's end; those
//    that they read are the answers of their calls and never in here: "readable at its origin" is a record
//    that is no value, shown to all who wait and taken back by the agent. For that it keeps a descriptor of
//    the processes' end, which every job shares as at home; nobody sees an eventfd's end.
//  - Listening socket: the same, but one for each job, of which the agent keeps no descriptor: who closes it
//    last must be seen, for the address is free then. To take the record back it borrows one (holder_end.h);
//    where it gets none the socket goes on looking readable.
//  - Terminal: a pseudo-terminal in raw mode. VMIN is 0: after a request brought no bytes, the end of file is
//    what a read sees.
// Thread-safety: none. Errors: errno values.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "runtime/stream/classify.h"
#include "runtime/stream/descriptor.h"
#include "runtime/stream/holder_end.h"
#include "runtime/stream/packet_batch.h"
#include "shim/wire/result.h"
#include "shim/wire/stream_mark.h"

namespace elsewhere::runtime::stream {

// What the origin tells of a bridged object beyond its kind (JobDescriptor::extra).
struct ObjectTraits {
  uint32_t grant = 0;       // number of this grant of the stream to this host
  uint64_t window = 0;      // how far ahead of the origin writers may be, in bytes
  int32_t socket_type = 0;  // SOCK_*
  int32_t broken = 0;       // errno that writes give already
  uint16_t rows = 0;        // terminal
  uint16_t columns = 0;
  uint64_t receive_limit = 0;  // of a socket, SO_RCVTIMEO in microseconds; 0: none
  uint64_t send_limit = 0;     // SO_SNDTIMEO
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.grant, s.window, s.socket_type, s.broken, s.rows, s.columns, s.receive_limit,
                    s.send_limit);
  }
};

class LocalObject {
 public:
  static Result<std::unique_ptr<LocalObject>> Create(Kind kind, const ObjectTraits& traits);

  // A descriptor for the processes of one job, marked, with these O_* status flags.
  Result<Descriptor> OpenForProcesses(int status_flags);
  // A socket can be given to one job only.
  bool CanOpenAgain() const { return !IsEachJobsOwn(kind_); }

  // As fstat shows it to a process.
  const ObjectId& id() const { return id_; }
  // The agent's end; -1 while ShowReadable.
  int agent_end() const { return agent_end_.get(); }
  Descriptor ReleaseAgentEnd() { return std::move(agent_end_); }
  int socket_type() const { return socket_type_; }

  // Bytes given to processes that none of them has read yet.
  size_t Unread() const;
  // How many bytes a pull may bring: what the object takes at once, enlarged towards `wanted` if need be.
  size_t RoomFor(size_t wanted);
  // Bytes written by processes that the agent has not taken yet, nor copied.
  size_t Untaken() const { return BytesWaiting(agent_end_.get()) - copied_; }

  // One write of a process (of a pipe or a datagram socket), or what there is. 0: no process holds it any
  // more, or, for a socket, shutdown(SHUT_WR); a datagram socket, which may have empty messages, says EPIPE.
  // EAGAIN: nothing there.
  // `passed`: descriptors that a process passed over a socket with the first of these bytes.
  Result<size_t> Take(std::span<uint8_t> buffer, std::vector<Descriptor>& passed);
  // Of a pipe, when the packet just taken was a full one: more packets at once (packet_batch.h).
  size_t TakePackets(size_t room, std::vector<uint8_t>& bytes, std::vector<uint32_t>& records) {
    return batch_.Take(agent_end_.get(), room, bytes, records);
  }
  // Who writes an output file faster than the pipe is emptied gets a larger one, once: fewer turns for the
  // same bytes.
  void Enlarge();
  // A packet takes a page however small it is, so that a pipe would hold 16 of them where natively it holds
  // 64 KB. Who writes many small ones gets room for more, as long as they are small and the window is not
  // full. Told how many packets came together, and their bytes.
  void FitPackets(size_t packets, size_t bytes);
  void WindowIsFull();
  // Of a pipe that processes write to: what is in it and was not copied before, without making room for more.
  // False: there is nothing, or it has to be taken.
  bool Copy(std::vector<uint8_t>& bytes, std::vector<uint32_t>& records);
  // What is there was copied, in part at least, and is not to be taken again.
  bool has_copied() const { return copied_ > 0; }
  // EAGAIN: full. EPIPE: no reader.
  Result<size_t> Give(std::span<const uint8_t> bytes, const std::vector<Descriptor>& passed = {});

  // Read end of a pipe whose readers are gone: what none of them read.
  std::vector<uint8_t> TakeUnread();

  // Read end of a pipe, event counter, listening socket: make poll see it readable, and back. Hide fails with
  // ENXIO when no process holds it.
  void ShowReadable();
  Status HideReadable();
  bool shows_readable() const {
    return AnswersCalls(kind_) ? shown_ : kind_ == Kind::kPipeRead && !agent_end_;
  }
  // Processes holding it may be gone without an event while it shows readable.

  void EndInput();   // reads see the end of file from now on
  void EndOutput();  // writes see EPIPE from now on

 private:
  LocalObject() = default;
  Status MakePipe(Kind kind);
  Status MakeSocket(int type, const ObjectTraits& traits);
  Status MakeTerminal(const ObjectTraits& traits);
  Result<Descriptor> OpenPipe(int status_flags);
  Result<Descriptor> OpenTerminal(int status_flags);
  Status TakeBackRecord();
  void DropCopied();

  Kind kind_{};
  ObjectId id_;
  int socket_type_ = 0;
  Descriptor agent_end_;
  Descriptor path_;         // read end of a pipe: O_PATH, holds the pipe without being an end of it
  Descriptor process_end_;  // until the first OpenForProcesses; of an event counter always
  size_t capacity_ = 0;
  bool process_writes_large_ = false;
  size_t copied_ = 0;        // bytes, the first in the pipe
  size_t more_packets_ = 1;  // times capacity_
  PacketBatch batch_;
  bool shown_ = false;  // event counter, listening socket
  HolderEnd holder_end_;
};

wire::StreamMark MarkOf(Kind kind);

}  // namespace elsewhere::runtime::stream
