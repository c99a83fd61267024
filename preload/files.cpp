#include "preload/files.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "preload/agent.h"
#include "preload/self.h"
#include "shim/wire/raw_syscall.h"
#include "shim/wire/session_names.h"

namespace elsewhere::preload {

constinit bool has_maps = false;
constinit std::atomic<uintptr_t> readable_pages[kReadablePages] = {};

namespace {

constexpr size_t kRoom = abi::kFilePathSize;

struct MapPoint {
  char directory[256];
  size_t size;
};
constinit MapPoint points[abi::kMostMaps] = {};
constinit uint32_t point_count = 0;
// "/session/tree/": below it are the trees, by number.
constinit char tree[abi::kSocketPathSize + 8] = {};
constinit size_t tree_size = 0;
// The current directory may lead to a mapped one by a relative path without "..". Only ever set: the child of
// a vfork sets its parent's too.
constinit std::atomic<bool> directory_matters = false;
// A connection that waits for the next call; -1: none.
constinit std::atomic<int> idle_connection = -1;

bool StartsWith(const char* text, const char* prefix, size_t size) {
  return strncmp(text, prefix, size) == 0;
}

// Is `path` the point's directory or below it?
bool LiesIn(const char* path, const MapPoint& point) {
  return StartsWith(path, point.directory, point.size) &&
         (path[point.size] == '/' || path[point.size] == '\0');
}

// The longest point that holds the absolute `path`, or -1.
int PointOf(const char* path) {
  int best = -1;
  for (uint32_t i = 0; i < point_count; ++i) {
    if (LiesIn(path, points[i]) && (best < 0 || points[i].size > points[static_cast<uint32_t>(best)].size))
      best = static_cast<int>(i);
  }
  return best;
}

// The kernel's name of what a relative path begins at; false: there is none.
bool BaseOf(int directory, char* to) {
  if (directory == AT_FDCWD) {
    const long size = raw::Syscall(SYS_getcwd, raw::Address(to), kRoom);
    return size > 0 && to[0] == '/';
  }
  char link[kDescriptorName];
  NameDescriptor(directory, link);
  const long size = raw::Syscall(SYS_readlink, raw::Address(link), raw::Address(to), kRoom - 1);
  if (size <= 0) return false;
  to[size] = '\0';
  return to[0] == '/';
}

void DropName(char* to, size_t* size) {
  while (*size > 0 && to[*size - 1] != '/') --*size;
  if (*size > 0) --*size;
  to[*size] = '\0';
}

bool AddName(char* to, size_t* size, const char* name, size_t length) {
  if (*size + length + 2 >= kRoom) return false;
  to[(*size)++] = '/';
  memcpy(to + *size, name, length);
  *size += length;
  to[*size] = '\0';
  return true;
}

// Puts the kernel's own name in the place of a directory of the local disk, which may be a link: ".." leads
// up from where it is. What the kernel does not know stays as it is.
void LeadToDirectory(char* to, size_t* size) {
  const long fd = raw::Syscall(SYS_openat, AT_FDCWD, raw::Address(to), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  char name[kRoom];
  if (BaseOf(static_cast<int>(fd), name)) {
    *size = strlen(name);
    memcpy(to, name, *size + 1);
    if (*size == 1) *size = 0;
  }
  raw::Close(static_cast<int>(fd));
}

// Appends `path` to the absolute, normal text in `to`, without "" and ".". What stands in `to` has no links
// in it; a ".." behind a name that may be one is resolved: by the kernel on the local disk, by the agent
// below a mapped directory, for which it stays. A final '/' stays: it asks for a directory; and there a final
// "." or
// "..", with which some calls fail. False: too long.
bool Append(char* to, size_t* size, const char* path) {
  bool slash = false, stays = false;
  size_t names = 0;
  to[*size] = '\0';
  while (*path != '\0') {
    const size_t length = strcspn(path, "/");
    const char* next = path + length + strspn(path + length, "/");
    const bool dot = length == 1 && path[0] == '.', parent = length == 2 && path[0] == '.' && path[1] == '.';
    const int point = dot || parent ? PointOf(to) : -1;
    const bool below = point >= 0 && *size > points[point].size;
    slash = path[length] == '/' || dot || parent;
    stays = stays || (parent && below && names > 0);
    if ((stays && !dot) || (point >= 0 && (dot || (parent && below)) && *next == '\0')) {
      if (!AddName(to, size, path, length)) return false;
      slash = path[length] == '/';
    } else if (parent) {
      if (names > 0 && point < 0) LeadToDirectory(to, size);
      DropName(to, size);
      if (names > 0) --names;
    } else if (!dot && length > 0) {
      if (!AddName(to, size, path, length)) return false;
      ++names;
    }
    path = next;
  }
  if (slash && *size > 0) to[(*size)++] = '/';
  to[*size] = '\0';
  return true;
}

bool HasParent(const char* path) {
  for (const char* at = strstr(path, ".."); at != nullptr; at = strstr(at + 2, "..")) {
    if ((at == path || at[-1] == '/') && (at[2] == '/' || at[2] == '\0')) return true;
  }
  return false;
}

// Turns a path in a tree into the one that it stands for, in place; false: it is in none or too long.
bool LeaveTree(char* path) {
  if (tree_size == 0 || !StartsWith(path, tree, tree_size)) return false;
  uint32_t map = 0;
  const char* rest = path + tree_size;
  if (*rest < '0' || *rest > '9') return false;
  for (; *rest >= '0' && *rest <= '9'; ++rest) map = map * 10 + static_cast<uint32_t>(*rest - '0');
  if (map >= point_count || (*rest != '/' && *rest != '\0')) return false;
  const size_t length = strlen(rest);
  if (points[map].size + length >= kRoom) return false;
  memmove(path + points[map].size, rest, length + 1);
  memcpy(path, points[map].directory, points[map].size);
  return true;
}

// Can the relative `path` lead to a mapped directory from one above it on the local disk? Only if its first
// name is one of those that a mapped directory's path has.
bool MayLeadDown(const char* path) {
  while (path[0] == '.' && path[1] == '/') path += 1 + strspn(path + 1, "/");
  const size_t length = strcspn(path, "/");
  for (uint32_t i = 0; i < point_count; ++i) {
    for (const char* at = points[i].directory; *at == '/'; at += strcspn(at, "/")) {
      ++at;
      if (StartsWith(at, path, length) && (at[length] == '/' || at[length] == '\0')) return true;
    }
  }
  return false;
}

// Whether the current directory is in a tree or above a mapped directory.
bool DirectoryMatters() {
  char base[kRoom];
  if (!BaseOf(AT_FDCWD, base)) return true;
  if (tree_size != 0 && StartsWith(base, tree, tree_size)) return true;
  const size_t size = strlen(base);
  for (uint32_t i = 0; i < point_count; ++i) {
    if (size == 1 || (StartsWith(points[i].directory, base, size) && points[i].directory[size] == '/'))
      return true;
  }
  return false;
}

void SetTree() {
  const char* slash = strrchr(self.agent_socket, '/');
  tree_size = 0;
  if (slash == nullptr) return;
  auto length = static_cast<size_t>(slash - self.agent_socket);
  // Root's sessions have a directory of their own for sockets.
  size_t above = length;
  while (above > 0 && self.agent_socket[above - 1] != '/') --above;
  if (above > 1 &&
      StartsWith(self.agent_socket + above, wire::kSocketsPrefix, sizeof wire::kSocketsPrefix - 1))
    length = above - 1;
  memcpy(tree, self.agent_socket, length);
  memcpy(tree + length, "/tree/", 7);
  tree_size = length + 6;
}

}  // namespace

void ReadMaps(const char* maps) {
  if (maps == nullptr || *maps != '/') return;
  while (*maps != '\0' && point_count < abi::kMostMaps) {
    const size_t length = strcspn(maps, "\n");
    MapPoint& point = points[point_count];
    if (length >= sizeof point.directory) return;
    memcpy(point.directory, maps, length);
    point.directory[length] = '\0';
    point.size = length;
    ++point_count;
    maps += length;
    if (*maps == '\n') ++maps;
  }
  SetTree();
  has_maps = true;
  NoteDirectory();
}

void MapsAfterRestore() {
  if (!has_maps) return;
  const int idle = idle_connection.exchange(-1);
  if (idle >= 0) ForgetOwn(idle);
  SetTree();
}

namespace {
int TakeConnection();
void GiveBack(int connection);
}  // namespace

void ForgetFileConnection() {
  const int idle = idle_connection.exchange(-1);
  if (idle >= 0) CloseOwn(idle);
}

void KeepFileConnection() {
  if (!has_maps || idle_connection.load(std::memory_order_relaxed) >= 0) return;
  const int before = errno, connection = TakeConnection();
  if (connection >= 0) GiveBack(connection);
  errno = before;
}

void NoteDirectory() {
  if (DirectoryMatters()) directory_matters.store(true, std::memory_order_relaxed);
}

bool FromTree(const char* text, size_t size, char* to, size_t room, size_t* length) {
  char path[kRoom];
  if (size >= kRoom) return false;
  memcpy(path, text, size);
  path[size] = '\0';
  if (!LeaveTree(path)) return false;
  *length = strlen(path);
  if (*length > room) *length = room;
  memcpy(to, path, *length);
  return true;
}

bool FindMapped(int directory, const char* path, MappedPath* found) {
  if (path == nullptr || !IsReadable(path) || *path == '\0') return false;
  char whole[kRoom];
  size_t size = 0;
  bool seen_from_map = false;
  found->left = false;
  if (*path == '/') {
    // The usual case: a path of somebody else's, in a few comparisons.
    if (PointOf(path) < 0 && (tree_size == 0 || !StartsWith(path, tree, tree_size)) && !HasParent(path) &&
        strstr(path, "//") == nullptr && strstr(path, "/./") == nullptr)
      return false;
    if (strlen(path) >= kRoom) return false;
    seen_from_map = PointOf(path) >= 0;
  } else {
    const bool matters = directory == AT_FDCWD
                             ? directory_matters.load(std::memory_order_relaxed)
                             : KindOf(directory) == DescriptorKind::kMappedDirectory || MayLeadDown(path);
    if (!matters && !HasParent(path)) return false;
    if (!BaseOf(directory, whole)) return false;
    seen_from_map = LeaveTree(whole);
    size = strlen(whole);
    if (size == 1) size = 0;
  }
  if (!Append(whole, &size, path)) {
    memset(found->path, 'x', NAME_MAX + 1);
    found->path[NAME_MAX + 1] = '\0';
    return seen_from_map;
  }
  LeaveTree(whole);
  const int point = PointOf(whole);
  if (point < 0) {
    // Where the mapped directory seems to be, the kernel has nothing to go up from.
    found->left = seen_from_map;
    if (seen_from_map) memcpy(found->path, size == 0 ? "/" : whole, size + 2);
    return false;
  }
  found->map = static_cast<uint32_t>(point);
  const char* rest = whole + points[found->map].size;
  while (*rest == '/') ++rest;
  memcpy(found->path, rest, strlen(rest) + 1);
  return true;
}

// Walks the names from the left; what a link holds is put in its place. Ends at the first path that is
// mapped.
bool FindBehindLinks(int directory, const char* path, MappedPath* found) {
  char whole[kRoom], target[kRoom];
  size_t size = 0;
  if (path == nullptr || *path == '\0' || !HasLinks(directory, path)) return false;
  if (*path != '/') {
    if (!BaseOf(directory, whole)) return false;
    size = strlen(whole);
    if (size == 1) size = 0;
  }
  if (!Append(whole, &size, path)) return false;
  int links = 0;
  for (size_t at = 1; at < size && links < 40;) {
    const size_t end = at + strcspn(whole + at, "/");
    const char after = whole[end];
    whole[end] = '\0';
    const long length = raw::Syscall(SYS_readlink, raw::Address(whole), raw::Address(target), kRoom - 1);
    whole[end] = after;
    if (length <= 0) {
      if (length != -EINVAL) return false;  // nothing there: no link can follow
      at = end + 1;
      continue;
    }
    ++links;
    target[length] = '\0';
    char rest[kRoom];
    memcpy(rest, whole + end, strlen(whole + end) + 1);
    size = target[0] == '/' ? 0 : at - 1;
    whole[size] = '\0';
    if (!Append(whole, &size, target) || !Append(whole, &size, rest)) return false;
    if (FindMapped(AT_FDCWD, whole, found)) return true;
    at = 1;
  }
  return false;
}

// ---- Calls

namespace {

int TakeConnection() {
  const int idle = idle_connection.exchange(-1);
  if (idle >= 0) return idle;
  // The agent knows this process, and notices its end; the child of a vfork becomes another.
  if (!InVforkChild() && AgentTable() == nullptr) return -ENOTCONN;
  return ConnectToAgent(self.agent_socket);
}

void GiveBack(int connection) {
  int none = -1;
  if (!idle_connection.compare_exchange_strong(none, connection)) CloseOwn(connection);
}

size_t SecondSize(const FileCall& call) {
  if (call.second == nullptr) return 0;
  return call.second_size == SIZE_MAX ? strlen(call.second) : call.second_size;
}

void NameCaller(abi::FileRequest* request) {
  request->uid = static_cast<uint32_t>(raw::Syscall(SYS_geteuid));
  request->gid = static_cast<uint32_t>(raw::Syscall(SYS_getegid));
  if (request->uid == 0) return;
  const long count = raw::Syscall(SYS_getgroups, abi::kFileGroups, raw::Address(request->groups));
  request->group_count = count > 0 ? static_cast<uint32_t>(count) : 0;
}

long SendRequest(int connection, const MappedPath& at, const FileCall& call) {
  abi::FileRequest request{};
  request.type = static_cast<uint32_t>(abi::Packet::kFileCall);
  request.operation = static_cast<uint32_t>(call.operation);
  request.map = at.map;
  memcpy(request.arguments, call.arguments, sizeof request.arguments);
  request.first = static_cast<uint32_t>(strlen(at.path));
  request.second = static_cast<uint32_t>(SecondSize(call));
  NameCaller(&request);
  request.size = static_cast<uint32_t>(sizeof request + request.first + request.second);
  iovec parts[3] = {{&request, sizeof request},
                    {const_cast<char*>(at.path), request.first},
                    {const_cast<char*>(call.second), request.second}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 3;
  long sent;
  do {
    sent = raw::Syscall(SYS_sendmsg, connection, raw::Address(&message), MSG_NOSIGNAL);
  } while (sent == -EINTR);
  return sent;
}

long ReceiveAnswer(int connection, FileCall* call) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{&call->answer, sizeof call->answer};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  long size;
  do {
    size = raw::Syscall(SYS_recvmsg, connection, raw::Address(&message), MSG_CMSG_CLOEXEC);
  } while (size == -EINTR);
  if (size < static_cast<long>(offsetof(abi::FileAnswer, text))) return size < 0 ? size : -EIO;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
    memcpy(&call->descriptor, CMSG_DATA(header), sizeof call->descriptor);
  return size;
}

}  // namespace

int64_t CallFile(const MappedPath& at, FileCall* call) {
  const int before = errno;
  call->descriptor = -1;
  call->answer.error = EIO;
  call->answer.text_size = 0;
  long result = -EIO;
  if (SecondSize(*call) >= kRoom) {
    result = -ENAMETOOLONG;
  } else {
    const int connection = TakeConnection();
    result = connection;
    if (connection >= 0) {
      result = SendRequest(connection, at, *call);
      if (result >= 0) result = ReceiveAnswer(connection, call);
      result >= 0 ? GiveBack(connection) : CloseOwn(connection);
    }
  }
  if (result < 0) {
    call->answer.error = static_cast<int>(-result);
    call->answer.text_size = 0;
    errno = call->answer.error == ENOTCONN ? EIO : call->answer.error;
    return -1;
  }
  if (call->answer.text_size >= sizeof call->answer.text)
    call->answer.text_size = sizeof call->answer.text - 1;
  call->answer.text[call->answer.text_size] = '\0';
  if (call->answer.result < 0) {
    errno = call->answer.error;
    return -1;
  }
  call->answer.error = 0;
  errno = before;
  return call->answer.result;
}

}  // namespace elsewhere::preload
