// What launcher, agent and workers agree on: the session directory, the command lines of the modes, the
// control connection, the report.
//
// Who owns whom: the launcher makes the directory, binds and listens the agent's socket, starts the agent
// (setsid) and COMMAND. The agent starts redis-server and the engine's workers: they are its children and die
// with it (PR_SET_PDEATHSIG). So the session can outlive the launcher, and one death takes everything of
// ours.
//
// Session directory (mode 0700, owner the user; root's may be passed through, 0711, because a process of
// root's can become another user's and still belongs to the session: its agent is found under a name that
// nobody can list):
//   lock          flock held by launcher and agent; held by nobody: the session is dead and may be removed
//   agent.sock    home agent, SOCK_SEQPACKET (shim/wire/abi.h); of root's sessions below h-SECRET/
//   host-N.sock   agent of local worker N, the same
//   redis.sock    private redis-server
//   store/        object store when --store is not given;  cache-N/  host cache of worker N
//   log/          agent.log, host-N.log, redis.log; only with --verbose kept on stderr too
//
// elsewhere-runtime agent  --session HEX32 --directory DIR --listen FD --control FD --lifeline FD
//                          --workers N [--store URL] [--fork remote|local] [--messages direct|broker]
//                          [--colocate] [--strict] [--verbose] [--count-objects]
//                          [--maps LIST --file-cache DIR --cache-size BYTES [--endpoint URL]
//                          [--write-back 1]]
//   FDs: listening agent.sock; SOCK_SEQPACKET control; read end of the lifeline pipe.
// elsewhere-runtime worker --session HEX32 --directory DIR --host N --store URL --key FD
//                          [--slots N] [--link FD] [--sealed-packs] [--sealed-messages] [--verbose]
//                          [--count-objects]
//                          [--maps LIST --file-cache DIR --cache-size BYTES [--endpoint URL]]
//   FDs: key, a pipe or memfd with the 64 hexadecimal digits of the session key; link, a direct connection
//   with home (link.h), without it messages go through the broker. The worker is pid 1 of its pid
//   namespace where namespaces are permitted. It leaves with status 0 after Shutdown.
// Both find the URL of Redis in the variable ELSEWHERE_REDIS and take it out of their environment: it may
// hold a password, and everybody can read a command line. An agent without it starts a private server.
//
// Control connection (SOCK_SEQPACKET, one text message per packet, at most kControlMessageSize bytes: WORD[
// TEXT]):
//   agent -> launcher   "ready"            everything is up; forks may go elsewhere
//                       "failed TEXT"      could not start, or the session is being ended because of TEXT
//                       "report JSON"      totals so far, in answer to "root-ended" and "report"
//                       "ended"            the last process is gone, everything of ours is removed
//   launcher -> agent   "root PID"         COMMAND runs as PID
//                       "root-ended STATUS" as waitpid gives it; a status of a signal ends the session
//                       "report"           send a report now
//                       "end TEXT"         end everything now (second Ctrl-C, launcher's own failure)
//   End of file at the agent without "root-ended" before it: the launcher was killed, the session ends.
//   End of file at the launcher without "ended": the agent was killed; the launcher ends the session itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "shim/wire/session_names.h"

namespace elsewhere::runtime {

inline constexpr size_t kControlMessageSize = 60 * 1024;

namespace control {
inline constexpr char kReady[] = "ready";
inline constexpr char kFailed[] = "failed";
inline constexpr char kReport[] = "report";
inline constexpr char kEnded[] = "ended";
inline constexpr char kRoot[] = "root";
inline constexpr char kRootEnded[] = "root-ended";
inline constexpr char kEnd[] = "end";
}  // namespace control

inline constexpr char kEnvRedis[] = "ELSEWHERE_REDIS";

// Paths below one session directory, which is there.
class SessionLayout {
 public:
  explicit SessionLayout(std::string directory) : directory_(std::move(directory)), sockets_(directory_) {
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(directory_, none)) {
      if (entry.path().filename().string().starts_with(wire::kSocketsPrefix)) sockets_ = entry.path();
    }
  }
  const std::string& directory() const { return directory_; }
  std::string Lock() const { return directory_ + "/lock"; }
  std::string AgentSocket(uint32_t host) const {
    return sockets_ + (host == 0 ? "/agent.sock" : "/host-" + std::to_string(host) + ".sock");
  }
  std::string RedisSocket() const { return directory_ + "/redis.sock"; }
  std::string Store() const { return directory_ + "/store"; }
  std::string Cache(uint32_t host) const { return directory_ + "/cache-" + std::to_string(host); }
  // The likenesses of mapped directories; a worker has its own there.
  std::string Tree() const { return directory_ + "/tree"; }
  std::string LogDirectory() const { return directory_ + "/log"; }
  std::string Log(uint32_t host) const {
    return host == 0 ? directory_ + "/log/agent.log"
                     : directory_ + "/log/host-" + std::to_string(host) + ".log";
  }

 private:
  std::string directory_;
  std::string sockets_;
};

// What the processes did with one object that they share (object_counts.h).
struct ObjectUse {
  std::string kind;
  std::string name;
  uint64_t here = 0;    // operations within one host
  uint64_t across = 0;  // through the agents
  uint64_t blocked_nanoseconds = 0;
};

// Totals of a session, as the report carries them (flat JSON object; "fallbacks" is an object reason ->
// count, "notes" an array of lines, "objects" an array of objects). Times are sums over children in
// nanoseconds.
struct SessionReport {
  uint64_t forks_remote = 0;  // children that ran on workers, nested ones included
  uint64_t forks_nested = 0;  // of these, forked on a worker
  uint64_t forks_local = 0;   // children that should have run remotely but ran at home
  uint64_t pipes_moved = 0;   // made at home, and become those of the worker that alone had them
  std::map<std::string, uint64_t> fallbacks;
  std::map<std::string, uint64_t> notes;
  uint64_t bytes_captured = 0;      // sum of image sizes
  uint64_t bytes_shipped = 0;       // put into the store
  uint64_t bytes_deduplicated = 0;  // captured - shipped
  uint64_t bytes_fetched = 0;       // by workers, from the store
  uint64_t capture_nanoseconds = 0;
  uint64_t upload_nanoseconds = 0;
  uint64_t invoke_nanoseconds = 0;   // job published -> worker has it
  uint64_t restore_nanoseconds = 0;  // fetch and restore on the worker
  uint64_t join_nanoseconds = 0;     // reaped on the worker -> deputy told
  uint32_t workers = 0;
  std::vector<ObjectUse> objects;
  uint64_t objects_not_listed = 0;

  std::string ToJson() const;
};

}  // namespace elsewhere::runtime
