// Libc's stdio on streams whose object is elsewhere.
//
// What fills a FILE's buffer is a read that libc makes by itself, wherever it finds the buffer empty: scanf
// in the middle of a number, fgetws, getpass, std::cin, fgetpwent. There are some fifty functions of the
// kind, several read more than once, and none can say beforehand how much: a list of hooks would be long,
// each a copy of libc's code, and a single one left out waits for ever for bytes that are at the origin.
//
// All of these reads, and only they, go through the table of functions that every FILE points to (glibc's
// struct _IO_jump_t): __read is called with the descriptor and exactly the size that the system call will
// have. So that entry is replaced, in the tables of libc themselves: they are data that the loader made
// read-only after relocation (RELRO), and libc accepts no FILE whose table lies elsewhere. Entries are known
// by their value, the address of libc's exported _IO_file_read, so nothing of their layout is assumed. All
// tables (of files, wide files, popen's) share that one function. For streams that are written at their
// origin the entries for lseek and fstat are replaced the same way, for mapped files (files.h) that for
// write, too.
//
// It is done when a process gets its first stream or mapped file. A process restored from the image of one in
// which it was done has it already. The page that holds the tables is writable for the moment of the change;
// other threads see the old word or the new one, and both are right for them.
#include "preload/stdio.h"

#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>

#include "preload/descriptor.h"
#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/output_file.h"
#include "preload/shared_file.h"
#include "shim/wire/raw_syscall.h"

// Exported by glibc since 2.1, declared nowhere. Weak: where one is missing, nothing is found.
extern "C" {
__attribute__((weak)) ssize_t _IO_file_read(FILE* stream, void* to, ssize_t size);
__attribute__((weak)) ssize_t _IO_file_write(FILE* stream, const void* from, ssize_t size);
__attribute__((weak)) off64_t _IO_file_seek(FILE* stream, off64_t offset, int whence);
__attribute__((weak)) int _IO_file_stat(FILE* stream, void* status);
}

namespace elsewhere::preload {
namespace {

ssize_t Read(FILE* stream, void* to, ssize_t size) {
  if (!IsKnown(stream->_fileno)) return _IO_file_read(stream, to, size);
  if (IsOutputFile(stream->_fileno)) return output::read(stream->_fileno, to, static_cast<size_t>(size));
  return WithInput(stream->_fileno, static_cast<size_t>(size), 0,
                   [&] { return _IO_file_read(stream, to, size); });
}

// As libc's own does it.
ssize_t WriteToShared(FILE* stream, const void* from, ssize_t size) {
  ssize_t done = 0;
  while (done < size) {
    const ssize_t written = hooks::write(stream->_fileno, static_cast<const char*>(from) + done,
                                         static_cast<size_t>(size - done));
    if (written < 0) {
      stream->_flags |= _IO_ERR_SEEN;
      break;
    }
    done += written;
  }
  if (stream->_offset >= 0) stream->_offset += done;
  return done;
}

// libc's own goes on until all is written, or says how much was.
ssize_t Write(FILE* stream, const void* from, ssize_t size) {
  const int fd = stream->_fileno;
  if (IsSharedFile(fd)) return WriteToShared(stream, from, size);
  const NotedOutput noted(fd);
  if (!IsMappedFile(fd)) return _IO_file_write(stream, from, size);
  OutputPlace place;
  if (!BeforeFileOutput(fd, static_cast<size_t>(size), -1, &place)) {
    stream->_flags |= _IO_ERR_SEEN;
    return 0;
  }
  const ssize_t written = _IO_file_write(stream, from, size);
  AfterFileOutput(fd, place, written);
  return written;
}

off64_t Seek(FILE* stream, off64_t offset, int whence) {
  if (IsKnown(stream->_fileno)) return hooks::lseek(stream->_fileno, offset, whence);
  return _IO_file_seek(stream, offset, whence);
}

int Status(FILE* stream, void* status) {
  if (KindOf(stream->_fileno) == DescriptorKind::kOutputFile || IsMappedFile(stream->_fileno))
    return hooks::fstat(stream->_fileno, static_cast<struct stat*>(status));
  return _IO_file_stat(stream, status);
}

constinit std::atomic<bool> follows = false;

struct Replacement {
  uintptr_t from;
  uintptr_t to;
};

template <class Function>
uintptr_t AddressOf(Function* function) {
  return reinterpret_cast<uintptr_t>(function);
}

// Words that were read-only since the program started.
struct Words {
  uintptr_t* first = nullptr;
  uintptr_t* end = nullptr;
};

// Libc's RELRO segment, as its program headers say it.
Words Relro() {
  const uintptr_t inside = AddressOf(_IO_file_read);
  for (const link_map* object = _r_debug.r_map; object != nullptr && inside != 0; object = object->l_next) {
    // Where a library is loaded its first page is its ELF header; a program at fixed addresses has base 0.
    if (object->l_addr == 0 || inside < object->l_addr) continue;
    const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(object->l_addr);
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) continue;
    const auto* segments = reinterpret_cast<const ElfW(Phdr)*>(object->l_addr + header->e_phoff);
    bool ours = false;
    Words words;
    for (unsigned i = 0; i < header->e_phnum; ++i) {
      const uintptr_t start = object->l_addr + segments[i].p_vaddr, end = start + segments[i].p_memsz;
      ours |= segments[i].p_type == PT_LOAD && inside >= start && inside < end;
      if (segments[i].p_type != PT_GNU_RELRO) continue;
      constexpr uintptr_t kWord = sizeof(uintptr_t);
      words.first = reinterpret_cast<uintptr_t*>((start + kWord - 1) & ~(kWord - 1));
      words.end = reinterpret_cast<uintptr_t*>(end & ~(kWord - 1));
    }
    if (ours) return words;
  }
  return {};
}

// How many words of `words` are `value`.
size_t Count(const Words& words, uintptr_t value) {
  size_t count = 0;
  for (const uintptr_t* word = words.first; word < words.end; ++word) count += *word == value ? 1 : 0;
  return count;
}

void Replace(uintptr_t* word, uintptr_t value) {
  constexpr uintptr_t kPage = 4096;
  const uintptr_t page = reinterpret_cast<uintptr_t>(word) & ~(kPage - 1);
  if (raw::Failed(raw::Syscall(SYS_mprotect, static_cast<long>(page), kPage, PROT_READ | PROT_WRITE))) return;
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
  raw::Syscall(SYS_mprotect, static_cast<long>(page), kPage, PROT_READ);
}

}  // namespace

bool CanFollowStdio() {
  const Words words = Relro();
  return Count(words, AddressOf(_IO_file_read)) != 0 || Count(words, AddressOf(Read)) != 0;
}

bool FollowsStdio() {
  return follows.load(std::memory_order_relaxed);
}

void FollowStdio() {
  const Replacement replacements[] = {
      {AddressOf(_IO_file_read), AddressOf(Read)},
      {AddressOf(_IO_file_write), AddressOf(Write)},
      {AddressOf(_IO_file_seek), AddressOf(Seek)},
      {AddressOf(_IO_file_stat), AddressOf(Status)},
  };
  const Words words = Relro();
  for (uintptr_t* word = words.first; word < words.end; ++word) {
    for (const Replacement& each : replacements) {
      if (each.from != 0 && *word == each.from) Replace(word, each.to);
    }
  }
  follows.store(Count(words, AddressOf(Read)) != 0 && Count(words, AddressOf(Write)) != 0,
                std::memory_order_relaxed);
}

}  // namespace elsewhere::preload
