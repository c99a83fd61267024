// fts_open and its kin below a mapped directory: libc's own open directories without a hook.
//
// Whose hierarchy it is says a flag that libc does not use. The current directory is never changed, as fts(3)
// leaves open; so fts_accpath is fts_path, which is one buffer for all entries of a hierarchy.
//
// Memory is in pages of its own, for the heap is the program's: those of what is in a directory go when the
// walk leaves it.
#include <errno.h>
#include <fts.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/real.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr int kOurs = 0x8000;
constexpr size_t kPath = 2 * PATH_MAX;
// What fts_build is called for.
enum class Wanted { kNames, kChildren, kToRead };

bool IsOurs(const FTS* hierarchy) {
  return hierarchy != nullptr && (hierarchy->fts_options & kOurs) != 0;
}

bool IsDot(const char* name) {
  return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

struct Block {
  Block* next;
  size_t size, used;
};
constexpr size_t kBlock = 64 << 10;

void* Allocate(Block** blocks, size_t size) {
  size = (size + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
  if (*blocks == nullptr || (*blocks)->used + size > (*blocks)->size) {
    const size_t room = size + sizeof(Block) > kBlock ? size + sizeof(Block) : kBlock;
    const long made = raw::Syscall(SYS_mmap, 0, static_cast<long>(room), PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw::Failed(made)) {
      errno = ENOMEM;
      return nullptr;
    }
    auto* block = reinterpret_cast<Block*>(made);
    *block = {*blocks, room,
              (sizeof(Block) + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t)};
    *blocks = block;
  }
  void* memory = reinterpret_cast<char*>(*blocks) + (*blocks)->used;
  (*blocks)->used += size;
  return memory;
}

void Free(Block** blocks) {
  while (Block* block = *blocks) {
    *blocks = block->next;
    raw::Syscall(SYS_munmap, raw::Address(block), static_cast<long>(block->size));
  }
}

// What is below an entry lies in blocks that stand before it.
constexpr size_t kBefore = alignof(max_align_t);
Block** Below(FTSENT* entry) {
  return reinterpret_cast<Block**>(reinterpret_cast<char*>(entry) - kBefore);
}

// The hierarchy lies in blocks that stand behind it.
struct Hierarchy {
  FTS fts;
  Block* blocks;
};

FTSENT* NewEntry(FTS* hierarchy, Block** blocks, const char* name, size_t length) {
  // The name has one byte already; its status follows.
  const size_t status =
      (sizeof(FTSENT) + length + alignof(struct stat) - 1) / alignof(struct stat) * alignof(struct stat);
  auto* memory = static_cast<char*>(Allocate(blocks, kBefore + status + sizeof(struct stat)));
  if (memory == nullptr) return nullptr;
  memset(memory, 0, kBefore + sizeof(FTSENT));
  auto* entry = reinterpret_cast<FTSENT*>(memory + kBefore);
  memcpy(entry->fts_name, name, length);
  entry->fts_name[length] = '\0';
  entry->fts_namelen = static_cast<unsigned short>(length);
  entry->fts_path = entry->fts_accpath = hierarchy->fts_path;
  entry->fts_instr = FTS_NOINSTR;
  entry->fts_statp = reinterpret_cast<struct stat*>(reinterpret_cast<char*>(entry) + status);
  return entry;
}

unsigned short NotFound(FTSENT* entry, int error) {
  entry->fts_errno = error;
  memset(entry->fts_statp, 0, sizeof *entry->fts_statp);
  return FTS_NS;
}

// Looks at what fts_accpath names; answers fts_info.
unsigned short Look(const FTS* hierarchy, FTSENT* entry, bool follow) {
  struct stat* status = entry->fts_statp;
  if (follow || (hierarchy->fts_options & FTS_LOGICAL) != 0) {
    if (hooks::stat(entry->fts_accpath, status) != 0) {
      const int error = errno;
      if (hooks::lstat(entry->fts_accpath, status) != 0) return NotFound(entry, error);
      errno = 0;
      return FTS_SLNONE;
    }
  } else if (hooks::lstat(entry->fts_accpath, status) != 0) {
    return NotFound(entry, errno);
  }
  if (S_ISLNK(status->st_mode)) return FTS_SL;
  if (S_ISREG(status->st_mode)) return FTS_F;
  if (!S_ISDIR(status->st_mode)) return FTS_DEFAULT;
  entry->fts_dev = status->st_dev;
  entry->fts_ino = status->st_ino;
  entry->fts_nlink = status->st_nlink;
  if (IsDot(entry->fts_name)) return FTS_DOT;
  for (FTSENT* above = entry->fts_parent; above->fts_level >= FTS_ROOTLEVEL; above = above->fts_parent) {
    if (above->fts_ino != entry->fts_ino || above->fts_dev != entry->fts_dev) continue;
    entry->fts_cycle = above;
    return FTS_DC;
  }
  return FTS_D;
}

FTSENT* Sorted(FTS* hierarchy, FTSENT* first, size_t count) {
  if (hierarchy->fts_compar == nullptr || count < 2) return first;
  Block* blocks = nullptr;
  auto** all = static_cast<FTSENT**>(Allocate(&blocks, count * sizeof(FTSENT*)));
  if (all == nullptr) return first;
  size_t number = 0;
  for (FTSENT* entry = first; entry != nullptr; entry = entry->fts_link) all[number++] = entry;
  qsort(all, count, sizeof(FTSENT*), hierarchy->fts_compar);
  for (size_t i = 0; i < count; ++i) all[i]->fts_link = i + 1 < count ? all[i + 1] : nullptr;
  first = all[0];
  Free(&blocks);
  return first;
}

// Where names in the entry's directory begin in the path.
size_t NamesBegin(const FTSENT* entry) {
  const size_t length = entry->fts_pathlen;
  return length > 0 && entry->fts_path[length - 1] == '/' ? length : length + 1;
}

void PutName(FTS* hierarchy, const FTSENT* entry) {
  const size_t begin = NamesBegin(entry->fts_parent);
  hierarchy->fts_path[begin - 1] = '/';
  memcpy(hierarchy->fts_path + begin, entry->fts_name, entry->fts_namelen + 1u);
}

// The path of the next root, which has it for a name up to now.
void Load(FTS* hierarchy, FTSENT* root) {
  root->fts_pathlen = root->fts_namelen;
  memcpy(hierarchy->fts_path, root->fts_name, root->fts_namelen + 1u);
  const char* slash = strrchr(root->fts_name, '/');
  if (slash != nullptr && (slash != root->fts_name || slash[1] != '\0')) {
    root->fts_namelen = static_cast<unsigned short>(strlen(slash + 1));
    memmove(root->fts_name, slash + 1, root->fts_namelen + 1u);
  }
  hierarchy->fts_dev = root->fts_dev;
}

FTSENT* NewChild(FTS* hierarchy, FTSENT* parent, const dirent& found, Wanted wanted) {
  const size_t length = strlen(found.d_name), begin = NamesBegin(parent);
  if (begin + length >= kPath) {
    errno = ENAMETOOLONG;
    return nullptr;
  }
  FTSENT* child = NewEntry(hierarchy, Below(parent), found.d_name, length);
  if (child == nullptr) return nullptr;
  child->fts_level = static_cast<short>(parent->fts_level + 1);
  child->fts_parent = parent;
  child->fts_pathlen = static_cast<unsigned short>(begin + length);
  constexpr int kWithoutStatus = FTS_NOSTAT | FTS_PHYSICAL;
  if (wanted == Wanted::kNames || ((hierarchy->fts_options & kWithoutStatus) == kWithoutStatus &&
                                   found.d_type != DT_DIR && found.d_type != DT_UNKNOWN)) {
    child->fts_info = FTS_NSOK;
    return child;
  }
  PutName(hierarchy, child);
  child->fts_info = Look(hierarchy, child, false);
  return child;
}

// What is in the current directory; nullptr: nothing, or it cannot be read.
FTSENT* Build(FTS* hierarchy, Wanted wanted) {
  FTSENT* parent = hierarchy->fts_cur;
  DIR* directory = hooks::opendir(parent->fts_accpath);
  if (directory == nullptr) {
    if (wanted != Wanted::kToRead) return nullptr;
    parent->fts_info = FTS_DNR;
    parent->fts_errno = errno;
    return nullptr;
  }
  FTSENT* first = nullptr;
  FTSENT** last = &first;
  size_t count = 0;
  while (const dirent* found = real::readdir(directory)) {
    if ((hierarchy->fts_options & FTS_SEEDOT) == 0 && IsDot(found->d_name)) continue;
    FTSENT* child = NewChild(hierarchy, parent, *found, wanted);
    if (child == nullptr) {
      parent->fts_errno = errno;
      Free(Below(parent));
      hooks::closedir(directory);
      parent->fts_info = FTS_ERR;
      hierarchy->fts_options |= FTS_STOP;
      errno = parent->fts_errno;
      return nullptr;
    }
    *last = child;
    last = &child->fts_link;
    ++count;
  }
  hooks::closedir(directory);
  hierarchy->fts_path[parent->fts_pathlen] = '\0';
  if (count == 0 && wanted == Wanted::kToRead) parent->fts_info = FTS_DP;
  return Sorted(hierarchy, first, count);
}

FTSENT* Goto(FTS* hierarchy, FTSENT* entry) {
  return hierarchy->fts_cur = entry;
}

// Behind `entry` and all below it.
FTSENT* Next(FTS* hierarchy, FTSENT* entry) {
  while (FTSENT* next = entry->fts_link) {
    entry = next;
    if (entry->fts_level == FTS_ROOTLEVEL) {
      Load(hierarchy, entry);
      return Goto(hierarchy, entry);
    }
    if (entry->fts_instr == FTS_SKIP) continue;
    PutName(hierarchy, entry);
    if (entry->fts_instr == FTS_FOLLOW) entry->fts_info = Look(hierarchy, entry, true);
    entry->fts_instr = FTS_NOINSTR;
    return Goto(hierarchy, entry);
  }
  FTSENT* parent = entry->fts_parent;
  Free(Below(parent));
  if (parent->fts_level == FTS_ROOTPARENTLEVEL) {
    errno = 0;
    return Goto(hierarchy, nullptr);
  }
  hierarchy->fts_path[parent->fts_pathlen] = '\0';
  parent->fts_info = parent->fts_errno != 0 ? FTS_ERR : FTS_DP;
  return Goto(hierarchy, parent);
}

FTSENT* Enter(FTS* hierarchy, FTSENT* directory, int instruction) {
  const bool other_device =
      (hierarchy->fts_options & FTS_XDEV) != 0 && directory->fts_dev != hierarchy->fts_dev;
  if (instruction == FTS_SKIP || other_device) {
    Free(Below(directory));
    hierarchy->fts_child = nullptr;
    directory->fts_info = FTS_DP;
    return directory;
  }
  if (hierarchy->fts_child != nullptr && (hierarchy->fts_options & FTS_NAMEONLY) != 0) {
    Free(Below(directory));
    hierarchy->fts_child = nullptr;
  }
  hierarchy->fts_options &= ~FTS_NAMEONLY;
  FTSENT* child = hierarchy->fts_child;
  hierarchy->fts_child = nullptr;
  if (child == nullptr) child = Build(hierarchy, Wanted::kToRead);
  if (child == nullptr) return (hierarchy->fts_options & FTS_STOP) != 0 ? nullptr : directory;
  PutName(hierarchy, child);
  return Goto(hierarchy, child);
}

FTSENT* Read(FTS* hierarchy) {
  FTSENT* entry = hierarchy->fts_cur;
  if (entry == nullptr || (hierarchy->fts_options & FTS_STOP) != 0) return nullptr;
  const int instruction = entry->fts_instr;
  entry->fts_instr = FTS_NOINSTR;
  const bool link = entry->fts_info == FTS_SL || entry->fts_info == FTS_SLNONE;
  if (instruction == FTS_AGAIN || (instruction == FTS_FOLLOW && link)) {
    entry->fts_info = Look(hierarchy, entry, instruction == FTS_FOLLOW);
    return entry;
  }
  if (entry->fts_info == FTS_D) return Enter(hierarchy, entry, instruction);
  return Next(hierarchy, entry);
}

FTSENT* Children(FTS* hierarchy, int instruction) {
  if (instruction != 0 && instruction != FTS_NAMEONLY) {
    errno = EINVAL;
    return nullptr;
  }
  FTSENT* entry = hierarchy->fts_cur;
  errno = 0;
  if (entry == nullptr || (hierarchy->fts_options & FTS_STOP) != 0) return nullptr;
  if (entry->fts_info == FTS_INIT) return entry->fts_link;
  if (entry->fts_info != FTS_D) return nullptr;
  Free(Below(entry));
  if (instruction == FTS_NAMEONLY) hierarchy->fts_options |= FTS_NAMEONLY;
  return hierarchy->fts_child =
             Build(hierarchy, instruction == FTS_NAMEONLY ? Wanted::kNames : Wanted::kChildren);
}

int Close(FTS* hierarchy) {
  for (FTSENT* entry = hierarchy->fts_cur; entry != nullptr;) {
    FTSENT* above = entry->fts_parent;  // in the blocks of the one above that
    Free(Below(entry));
    entry = above;
  }
  Block* blocks = reinterpret_cast<Hierarchy*>(hierarchy)->blocks;
  Free(&blocks);
  return 0;
}

// The roots, with `parent` above them; false: with errno.
bool AddRoots(FTS* hierarchy, char* const* paths, FTSENT* parent, FTSENT* before) {
  FTSENT** last = &before->fts_link;
  size_t count = 0;
  for (; paths[count] != nullptr; ++count) {
    const size_t length = strlen(paths[count]);
    if (length == 0 || length >= PATH_MAX) {
      errno = length == 0 ? ENOENT : ENAMETOOLONG;
      return false;
    }
    FTSENT* root = NewEntry(hierarchy, Below(parent), paths[count], length);
    if (root == nullptr) return false;
    *last = root;
    last = &root->fts_link;
    root->fts_level = FTS_ROOTLEVEL;
    root->fts_parent = parent;
    root->fts_accpath = root->fts_name;
    root->fts_info = Look(hierarchy, root, (hierarchy->fts_options & FTS_COMFOLLOW) != 0);
    if (root->fts_info == FTS_DOT) root->fts_info = FTS_D;
    root->fts_accpath = hierarchy->fts_path;
  }
  before->fts_link = Sorted(hierarchy, before->fts_link, count);
  return true;
}

FTS* Open(char* const* paths, int options, tree_compare compare) {
  if ((options & ~FTS_OPTIONMASK) != 0) {
    errno = EINVAL;
    return nullptr;
  }
  Block* blocks = nullptr;
  auto* made = static_cast<Hierarchy*>(Allocate(&blocks, sizeof(Hierarchy)));
  if (made == nullptr) return nullptr;
  memset(made, 0, sizeof *made);
  made->blocks = blocks;
  FTS* hierarchy = &made->fts;
  hierarchy->fts_options = options | FTS_NOCHDIR | kOurs;
  hierarchy->fts_compar = reinterpret_cast<int (*)(const void*, const void*)>(compare);
  // All of this is less than a block.
  hierarchy->fts_path = static_cast<char*>(Allocate(&made->blocks, kPath));
  FTSENT* parent = NewEntry(hierarchy, &made->blocks, "", 0);
  FTSENT* before = NewEntry(hierarchy, &made->blocks, "", 0);
  parent->fts_level = FTS_ROOTPARENTLEVEL;
  before->fts_parent = parent;
  before->fts_info = FTS_INIT;
  hierarchy->fts_cur = before;
  if (AddRoots(hierarchy, paths, parent, before)) return hierarchy;
  const int error = errno;
  Close(hierarchy);
  errno = error;
  return nullptr;
}

bool HasMappedRoot(char* const* paths) {
  MappedPath at;
  for (; *paths != nullptr; ++paths) {
    if (FindMapped(AT_FDCWD, *paths, &at)) return true;
  }
  return false;
}

}  // namespace

namespace hooks {

FTS* fts_open(char* const* paths, int options, tree_compare compare) {
  return HasMappedRoot(paths) ? Open(paths, options, compare) : real::fts_open(paths, options, compare);
}
FTSENT* fts_read(FTS* hierarchy) {
  return IsOurs(hierarchy) ? Read(hierarchy) : real::fts_read(hierarchy);
}
FTSENT* fts_children(FTS* hierarchy, int instruction) {
  return IsOurs(hierarchy) ? Children(hierarchy, instruction) : real::fts_children(hierarchy, instruction);
}
int fts_close(FTS* hierarchy) {
  return IsOurs(hierarchy) ? Close(hierarchy) : real::fts_close(hierarchy);
}

}  // namespace hooks
}  // namespace elsewhere::preload
