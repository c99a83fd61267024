// shaped_link SERVER_PORT MEGABYTES_PER_SECOND MILLISECONDS: a proxy on a free loopback port, which it
// prints. Each direction carries at most that many bytes a second for all connections together, and every
// byte takes half of the milliseconds, so a round trip takes all of them. Ends with its standard input.
//
// A real link needs no processor, so this one needs as little as it can: bytes wait in a pipe, where they
// come from one socket and go to the other without being copied.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <list>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kPiece = 128 << 10;
constexpr int kQueued = 1 << 20;  // of one direction of a connection; beyond, the sender waits

struct Piece {
  Clock::time_point due;
  size_t left;  // bytes of it in the pipe
};

// One direction of all connections: bytes leave it one after the other, at its rate.
struct Wire {
  double bytes_per_second;
  Clock::duration delay;
  Clock::time_point free_at{};

  Clock::time_point Carry(size_t bytes) {
    auto now = Clock::now();
    free_at = std::max(free_at, now) + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(double(bytes) / bytes_per_second));
    return free_at + delay;
  }
};

struct Way {
  int from, to;
  Wire* wire;
  int pipe[2] = {-1, -1};
  std::deque<Piece> pieces{};
  bool full = false, ended = false, closed = false;
};

struct Connection {
  Way up, down;
  bool broken = false;
};

void Forward(Way& way, Connection& connection, bool readable) {
  if (readable && !way.ended && !way.full) {
    ssize_t got = splice(way.from, nullptr, way.pipe[1], nullptr, kPiece, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (got == 0) way.ended = true;
    if (got < 0 && errno != EAGAIN) connection.broken = true;
    if (got < 0) way.full = !way.pieces.empty();  // there was something to take
    if (got > 0) way.pieces.push_back({way.wire->Carry(size_t(got)), size_t(got)});
  }
  auto now = Clock::now();
  while (!way.pieces.empty() && way.pieces.front().due <= now) {
    Piece& piece = way.pieces.front();
    ssize_t done =
        splice(way.pipe[0], nullptr, way.to, nullptr, piece.left, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (done < 0 && errno == EAGAIN) break;
    if (done <= 0) return void(connection.broken = true);
    way.full = false;
    piece.left -= size_t(done);
    if (piece.left > 0) break;
    way.pieces.pop_front();
  }
  if (way.ended && way.pieces.empty() && !way.closed) {
    way.closed = true;
    shutdown(way.to, SHUT_WR);
  }
}

int Socket() {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  signal(SIGPIPE, SIG_IGN);  // who has closed shows as an error
  double rate = atof(argv[2]) * 1e6;
  auto delay = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double, std::milli>(atof(argv[3]) / 2));
  Wire up{rate, delay}, down{rate, delay};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr_in server = address;
  server.sin_port = htons(uint16_t(atoi(argv[1])));
  socklen_t size = sizeof address;
  int listener = Socket();
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener, 128) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    return 1;
  std::printf("%d\n", ntohs(address.sin_port));
  std::fflush(stdout);

  std::list<Connection> connections;
  for (;;) {
    std::vector<pollfd> ends{{STDIN_FILENO, POLLIN, 0}, {listener, POLLIN, 0}};
    auto next = Clock::time_point::max();
    for (auto& connection : connections)
      for (Way* way : {&connection.up, &connection.down}) {
        short wanted = !way->ended && !way->full ? POLLIN : 0;
        ends.push_back({wanted ? way->from : -1, wanted, 0});
        bool due = !way->pieces.empty() && way->pieces.front().due <= Clock::now();
        ends.push_back({due ? way->to : -1, POLLOUT, 0});
        if (!way->pieces.empty() && !due) next = std::min(next, way->pieces.front().due);
      }
    auto wait = std::max(next - Clock::now(), Clock::duration::zero());
    auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(wait).count();
    timespec limit{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
    if (ppoll(ends.data(), ends.size(), next == Clock::time_point::max() ? nullptr : &limit, nullptr) < 0)
      return 1;
    if (ends[0].revents) return 0;
    size_t at = 2;
    for (auto& connection : connections)
      for (Way* way : {&connection.up, &connection.down}) {
        Forward(*way, connection, ends[at].revents != 0);
        at += 2;
      }
    connections.remove_if([](Connection& connection) {
      bool over = connection.broken || (connection.up.closed && connection.down.closed);
      if (over) {
        for (int fd : {connection.up.from, connection.up.to}) close(fd);
        for (Way* way : {&connection.up, &connection.down})
          for (int fd : way->pipe) close(fd);
      }
      return over;
    });
    if (!ends[1].revents) continue;
    int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), on = 1, peer = Socket();
    if (client < 0) continue;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(peer, reinterpret_cast<sockaddr*>(&server), sizeof server) != 0) return 1;
    for (int fd : {client, peer}) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    Connection& made = connections.emplace_back(Connection{{client, peer, &up}, {peer, client, &down}});
    for (Way* way : {&made.up, &made.down}) {
      if (pipe2(way->pipe, O_CLOEXEC | O_NONBLOCK) != 0) return 1;
      fcntl(way->pipe[1], F_SETPIPE_SZ, kQueued);  // else as large as it is
    }
  }
}
