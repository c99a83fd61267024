// A pipe that was home's and is this host's from now on, as far as that is not the kernel's business alone.
//
// What stood for its write end is the pipe. What stood for its read end, `stand_in`, is empty, and whoever
// reads it asks (kPull) first: it gets the bytes that come first, and behind these the pipe's own read end,
// which it puts in the place of its descriptor. A read end is kept here as long as a process has the
// stand-in, so nobody is told too early that nobody reads; a write end never.
//
// Who watches (poll, epoll) is told that there is something to read, and the stand-in shows it readable until
// the watch is over: so nobody ever waits on the stand-in in the kernel, but comes back and asks.
//
// A process that cannot replace its descriptor (no number is free, or it is a vfork child) has the bytes
// carried to the stand-in, request by request.
// Everything runs on the agent's loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "runtime/agent.h"
#include "runtime/stream/descriptor.h"
#include "runtime/stream/local_object.h"
#include "shim/wire/stream_message.h"

namespace elsewhere::runtime::stream {

// Bytes that come before what the kernel's pipe has. They may have readers on other hosts, too: when the pipe
// was passed on, its origin (OriginStream) takes them from here.
struct FirstBytes {
  std::vector<uint8_t> bytes;
  bool awaited = true;  // home has not yet sent all
  std::vector<std::function<void()>> on_more;
  std::vector<uint8_t> Take(size_t most);
  // In front of the others.
  void Put(std::span<const uint8_t> more);
};

class MovedPipe {
 public:
  struct Request {
    CallId call;
    int32_t process = 0;
    uint64_t bytes = 0;  // 0: a watch
    bool wait = true;
    bool stays = false;  // abi::kPullStays
  };

  // `pipe`: the agent's own read end; `read_end`: the one for everybody else. `untaken`: what was in the pipe
  // that home has not seen. `gone` is called when no process has the stand-in any more, or its bytes were
  // only awaited for another host; it must not destroy this at once.
  MovedPipe(Agent& agent, wire::StreamId name, const ObjectId& stand_in, Descriptor pipe, Descriptor read_end,
            std::vector<uint8_t> untaken, std::function<void(MovedPipe&)> gone);
  ~MovedPipe();

  wire::StreamId name() const { return name_; }
  bool awaited() const { return first_->awaited; }
  const ObjectId& stand_in() const { return stand_in_id_; }

  // While home's bytes are awaited: more of them; what nobody read of those that came before.
  void OnMoved(std::span<const uint8_t> bytes) { home_.insert(home_.end(), bytes.begin(), bytes.end()); }
  void PutBack(std::span<const uint8_t> returned);
  // Home's bytes are there. `stand_in`: nullptr after Abandon. `requests`: what waited for home.
  void Open(std::unique_ptr<LocalObject> stand_in, const std::vector<Request>& requests,
            const wire::StreamMoved& moved);
  // No process has the stand-in any more, before that. True: nobody awaits home's bytes.
  bool Abandon();

  void Ask(const Request& request);
  void GiveBack();
  void Watch(const Request& request, bool until_closed);
  // The result of abi::Operation::kWatch; nothing waits.
  void EndWatch(const Request& request, bool until_closed, bool query);
  // fcntl and FIONREAD by numbers that still are the stand-in's.
  void Control(CallId call, const wire::StreamControl& control);
  void CallCancelled(CallId call) { End(call, true); }
  void CallDropped(CallId call) { End(call, false); }
  void ProcessGone(int32_t process);
  // Has any process the stand-in? Who has replaced it asks, and is not told before: what it closes next is
  // the pipe's read end, and who writes then must find that nobody reads.
  void LookForHolders();

  // The pipe's read end, for a process or another host.
  Result<Descriptor> Open() const { return Duplicate(read_end_.get()); }
  // For another host, whose readers take them, too.
  const std::shared_ptr<FirstBytes>& ShareFirst();

 private:
  void Serve(const Request& request);
  void Give(const Request& request, std::span<const uint8_t> bytes);
  void HandOver(const Request& request);
  void Carry();
  void Listen();
  void End(CallId call, bool answer);
  short Readiness(const Request& request) const;
  void Show();
  void Hide();
  void Register();
  void Unregister();
  bool watched() const { return !once_.empty() || !until_closed_.empty(); }

  Agent& agent_;
  const wire::StreamId name_;
  Descriptor pipe_;      // this agent's description, which never waits
  Descriptor read_end_;  // the one that all processes get
  std::vector<uint8_t> home_;
  std::vector<uint8_t> returned_;
  std::vector<uint8_t> untaken_;
  std::shared_ptr<FirstBytes> first_ = std::make_shared<FirstBytes>();
  std::function<void(MovedPipe&)> gone_;
  const ObjectId stand_in_id_;
  std::unique_ptr<LocalObject> stand_in_;
  bool registered_ = false;
  bool listens_ = false;          // to the pipe itself
  bool wants_readiness_ = false;  // somebody who cannot replace its descriptor watches
  std::deque<Request> waiting_;   // for home's bytes
  std::deque<std::pair<CallId, wire::StreamControl>> controls_;  // the same
  std::deque<Request> carried_;
  std::map<int32_t, int> once_;  // kernel pids that watch, and how often
  std::set<int32_t> until_closed_;
};

}  // namespace elsewhere::runtime::stream
