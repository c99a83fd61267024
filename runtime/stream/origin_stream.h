// One open file description of this host that processes of other hosts hold too: the side where the object
// is.
//
// Rules:
//  - The flags of the user's description are never changed. A pipe, FIFO or terminal is opened again through
//    /proc/self/fd with O_NONBLOCK of its own; sockets are used with MSG_DONTWAIT; plain files are written on
//    the description itself, whose offset is shared.
//  - There is one *share* per host (for a socket: per job). While there is a share this class holds the
//  object
//    open, exactly once; the last share's end closes it, so end of file, EPIPE and SIGPIPE are the kernel's.
//  - Bytes are taken out only for a request that waits for them, in the order of the requests. Only where one
//    other host has all readers of a pipe it is given more than it asked for; and a message with its length
//    (framing.h).
//  - A share that its host closed stays until its bytes are in, also when its processes were killed: they had
//    been told that these are written.
// Everything runs on the agent's loop. Errors of the object itself are sent to the hosts that use it.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "runtime/agent.h"
#include "runtime/stream/classify.h"
#include "runtime/stream/descriptor.h"
#include "runtime/stream/framing.h"
#include "runtime/stream/grants.h"
#include "runtime/stream/local_object.h"
#include "runtime/stream/moved_pipe.h"
#include "runtime/stream/origin_call.h"
#include "runtime/stream/write_queue.h"
#include "shim/wire/stream_message.h"

namespace elsewhere::runtime::stream {

using wire::StreamId;
class Passing;

class OriginStream {
 public:
  struct Events {
    // The last share has ended; everything is closed by then.
    std::function<void(OriginStream&)> unused;
    // A pipe that no process of this host reads was asked for input.
    std::function<void(OriginStream&)> unread;
    // A socket was shut down for another host: it and its peer may not be written any more.
    std::function<void()> shut_down;
    // Nothing more can be written, as that host is to be told; soon.
    std::function<void(HostId, const wire::StreamBroken&)> broken;
  };
  // `descriptor`: a dup of the description. `events` must not destroy the stream at once.
  static Result<std::unique_ptr<OriginStream>> Create(Agent& agent, Passing& passing, Kind kind,
                                                      Descriptor descriptor, int flags, Events events);
  ~OriginStream();

  Kind kind() const { return kind_; }
  int descriptor() const { return descriptor_.get(); }
  bool writable() const { return writable_; }
  const std::map<StreamId, HostId> Shares() const;

  // One more job of `host` lists the stream. `id` names the share, new or not. Returns the grant's number.
  uint32_t Grant(StreamId id, HostId host);
  // That job will never be seen by its host.
  void Withdraw(StreamId id, uint32_t grant);
  ObjectTraits Traits() const;
  int32_t broken() const { return broken_; }

  void OnData(wire::StreamData&& data);
  void OnClose(const wire::StreamClose& close);
  void OnShutdown(const wire::StreamShutdown& shutdown);
  // Of a socket: tells the hosts that have it if it cannot be written any more.
  void LookForShutdown();
  void OnPull(const wire::StreamPull& pull);
  void OnReturn(wire::StreamReturn&& returned);
  void OnWatch(const wire::StreamWatch& watch);
  void OnControl(const wire::StreamControl& control);
  // Of a plain file (runtime/stream/plain_files.h).
  void OnOffset(const wire::StreamOffset& moved);
  int64_t OffsetNow() const;
  void TellOffset();
  // For a job of the share's host.
  int64_t OffsetFor(StreamId share);
  // The deputy of this process was continued.
  void ProcessContinued(wire::Incarnation process);
  // A process elsewhere has ended, and with it its record locks.
  void LockerEnded(int32_t process) { lockers_.erase(process); }
  void HostGone(HostId host);
  // Runs `action` when everything that the share was sent so far is in or was thrown away, at once if so now;
  // or, `stuck`, when a socket has taken nothing for kStreamPatience, or a pipe, in which no more room can be
  // made, for kPipePatience, with kRoom at once. Either way those bytes will go in as soon as there is room.
  using Action = std::function<void(bool stuck)>;
  void WhenWritten(StreamId id, wire::Patience patience, Action action);
  // Of a share whose host waits for room: what is in is credited, be it in room that was made.
  void GiveCredit(StreamId id);

  // ---- A pipe that moves to the one host that has it (pipe_moves.h)

  struct Sole {
    StreamId id;
    HostId host;
    uint32_t grant;  // the last that its host will see
  };
  // The share, if it is the only one and what there is to be known of the pipe is its bytes, its size and
  // whether reading waits.
  std::optional<Sole> SoleShare() const;
  // How many this class has open.
  size_t descriptors() const { return pump_ ? 2 : 1; }
  // What is in the pipe, or on its way into it.
  std::vector<uint8_t> TakeAll();
  // Ends all shares, whose hosts know.
  void Leave();
  // What comes before the pipe's own bytes, for readers on this host, too (moved_pipe.h).
  void SetFirst(std::shared_ptr<FirstBytes> first);

 private:
  struct Share {
    HostId host = 0;
    int64_t offset = 0;    // of a plain file, as the host knows it
    uint32_t granted = 0;  // number of the last grant
    Grants open;           // that its host has not closed, or will see
    bool closing = false;
    uint64_t shut_at = 0;     // shutdown(SHUT_WR) follows what was received up to here
    uint32_t generation = 0;  // of the host's mirror
    uint64_t base = 0;        // what was received of earlier generations
    uint64_t received = 0;    // positions, over all generations
    uint64_t written = 0;
    uint64_t credited = 0;
    struct Waiting {  // for `written` to reach the position
      uint64_t position;
      wire::Patience patience;
      Action action;
    };
    std::vector<Waiting> waiting;
  };
  struct Request {
    StreamId share;
    uint64_t request;
    uint64_t bytes;
    uint64_t room;
    bool wait;
    bool ahead;
    wire::Incarnation reader;
  };
  struct Watcher {
    StreamId share;
    uint64_t request;
  };

  OriginStream(Agent& agent, Passing& passing, Kind kind, Descriptor descriptor, int flags, Events events);
  Status OpenPump();
  bool Pollable() const { return kind_ != Kind::kOutputFile && !CarriesOffset(kind_); }
  // An output file that is a mapped one; nullptr: it is what the kernel knows.
  MappedFiles* mapped() const { return is_mapped_ ? agent_.mapped_files() : nullptr; }
  void NoteRewriting();
  int pump() const { return pump_ ? pump_.get() : descriptor_.get(); }

  Result<size_t> WriteNow(std::span<const uint8_t> bytes, const std::vector<Descriptor>& passed);
  Result<size_t> AddToEvent(std::span<const uint8_t> bytes);
  void KeepExpirations(std::span<const uint8_t> bytes);
  Result<size_t> ReadNow(std::span<uint8_t> buffer, std::vector<Descriptor>& passed);
  short ReadableNow() const;

  void Flush();
  void Break(int error);
  void Written(StreamId id, uint64_t bytes);
  void MakeCall(HostId host, const wire::StreamControl& control);
  wire::StreamControlled ShareFile(const wire::StreamControl& control);
  void CancelCall(HostId host, const wire::StreamControl& control);
  wire::StreamControlled MoveOffset(const wire::StreamControl& control);
  bool LendsOffset();
  void TakeOffset(const wire::StreamControl& control);
  void LendOffset();
  void NoReader(StreamId share);
  int DescriptorOfLocker(wire::StreamControl& call);
  uint64_t Window() const;
  void SendCredit(StreamId id, Share& share, bool last);
  bool HoldsCredit();
  int ShutDown(int how);
  void ShutWriting();
  void ShutIfWritten();
  bool CanWrite() const;
  bool HasDatagrams() const { return kind_ == Kind::kSocket && borders_ == Borders::kDatagram; }
  bool HasEnded() const;
  void EndIfWritten(StreamId id);
  void MaybeClosing(StreamId id, Share& share);
  void CloseEverything();
  void NoteProgress(uint64_t bytes);
  bool IsAwaited() const;
  void WatchForStandstill();
  void LookAgainAfter(std::chrono::steady_clock::duration time);
  void MakeRoom();
  void SayStuck(wire::Patience patience);  // to who waits no longer than that
  uint64_t Waiting() const;                // bytes that have no room

  void ServeRequests();
  bool Serve(const Request& request);
  bool Accept(const Request& request);
  Result<Descriptor> AcceptNow(std::vector<uint8_t>& address);
  struct Part {
    std::vector<uint8_t> bytes;
    std::vector<Descriptor> passed;
  };
  void Answer(const Request& request, int error, bool last, bool end, Part part);
  void EnlargePipe(uint64_t wanted);
  bool MayReadAhead() const;
  uint64_t MessageBehind(std::span<const uint8_t> header, uint64_t room) const;
  void LookForReaders();
  bool MustWaitForTurn(const Request& request) const;
  void RefuseOrPark(const Request& request);
  void PutBack();
  void ServeWatchers();
  void OnReady(uint32_t events);
  void UpdateInterest();

  Agent& agent_;
  Passing& passing_;
  const Kind kind_;
  Descriptor descriptor_;
  Descriptor pump_;
  const int flags_;
  bool is_mapped_ = false;
  ObjectId object_{};
  const Events events_;
  bool readable_ = false;
  bool writable_ = false;
  bool no_wait_reads_ = false;  // could not be opened again: every call says RWF_NOWAIT
  int socket_type_ = 0;
  bool passes_ = false;  // a Unix socket: descriptors may come and go with bytes
  Borders borders_ = Borders::kNone;

  std::map<StreamId, Share> shares_;
  WriteQueue queue_;
  std::optional<std::chrono::steady_clock::time_point> refuses_since_;  // while bytes wait for room
  uint64_t flowed_ = 0;   // bytes that went in since it had refused for kRoomPatience
  bool is_read_ = false;  // more of these than it may hold
  EventLoop::TimerId standstill_ = 0;
  // What a full pipe held when it was made larger, until somebody has read. Less than its size: a page is not
  // always filled.
  std::optional<size_t> before_room_;
  EventLoop::TimerId credit_look_ = 0;
  std::deque<Request> requests_;
  std::vector<Request> parked_;  // of a terminal that is another group's; until their process is continued
  std::vector<Watcher> watchers_;
  std::map<std::pair<StreamId, uint64_t>, std::shared_ptr<WaitingCall>> calls_;  // by share and request
  std::map<int32_t, Descriptor> lockers_;                                        // by session pid
  // Of a plain file that is only read: the share whose host has the offset (0: nobody elsewhere has), and who
  // asks for it.
  std::optional<bool> lends_offset_;
  StreamId reader_ = 0;
  bool recalled_ = false;
  struct Taker {
    StreamId share;
    uint64_t request;
  };
  std::deque<Taker> takers_;
  std::vector<uint8_t> returned_;  // comes before what the object has
  std::shared_ptr<FirstBytes> first_;
  std::deque<Part> returned_parts_;  // connections, datagrams: each is one answer
  bool shutting_ = false;            // behind Share::shut_at of all
  int32_t broken_ = 0;
  bool hung_up_ = false;
  bool added_ = false;
  bool closed_ = false;
  uint32_t interest_ = 0;
  uint64_t enlarged_ = 0;
  bool sole_reader_ = false;  // no process of this host can read the pipe any more
  Framing framing_;
  uint64_t pulls_ = 0;
  uint64_t next_look_ = 16;  // at which pull to look for readers
  const std::shared_ptr<const bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace elsewhere::runtime::stream
