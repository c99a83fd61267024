#include "preload/tracing.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>

#include <cstddef>
#include <cstdint>

#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

enum class Tracer : uint8_t { kUnknown, kNo, kYes };
constinit Tracer tracer = Tracer::kUnknown;

// The relocations of the main program name what it uses of libraries.
class Imports {
 public:
  explicit Imports(const link_map& program) : base_(program.l_addr) {
    size_t sizes[2] = {};
    const ElfW(Rela) * lists[2] = {};
    for (const ElfW(Dyn)* entry = program.l_ld; entry->d_tag != DT_NULL; ++entry) {
      if (entry->d_tag == DT_SYMTAB) symbols_ = At<ElfW(Sym)>(entry->d_un.d_ptr);
      if (entry->d_tag == DT_STRTAB) strings_ = At<char>(entry->d_un.d_ptr);
      if (entry->d_tag == DT_RELA) lists[0] = At<ElfW(Rela)>(entry->d_un.d_ptr);
      if (entry->d_tag == DT_RELASZ) sizes[0] = entry->d_un.d_val;
      if (entry->d_tag == DT_JMPREL) lists[1] = At<ElfW(Rela)>(entry->d_un.d_ptr);
      if (entry->d_tag == DT_PLTRELSZ) sizes[1] = entry->d_un.d_val;
    }
    for (size_t i = 0; i < 2; ++i) {
      lists_[i] = lists[i];
      counts_[i] = lists[i] == nullptr ? 0 : sizes[i] / sizeof(ElfW(Rela));
    }
  }

  bool Have(const char* name) const {
    if (symbols_ == nullptr || strings_ == nullptr) return false;
    for (size_t list = 0; list < 2; ++list) {
      for (size_t i = 0; i < counts_[list]; ++i) {
        const auto symbol = ELF64_R_SYM(lists_[list][i].r_info);
        if (symbol != 0 && strcmp(strings_ + symbols_[symbol].st_name, name) == 0) return true;
      }
    }
    return false;
  }

 private:
  // The loader has added the base to these addresses already, except where the dynamic section is read-only.
  template <class T>
  const T* At(ElfW(Addr) address) const {
    return reinterpret_cast<const T*>(address < base_ ? base_ + address : address);
  }

  ElfW(Addr) base_;
  const ElfW(Sym) * symbols_ = nullptr;
  const char* strings_ = nullptr;
  const ElfW(Rela) * lists_[2] = {};
  size_t counts_[2] = {};
};

bool IsTraced() {
  char text[1024];
  const long fd = raw::Syscall(SYS_openat, AT_FDCWD, raw::Address("/proc/self/status"), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const long size = raw::Read(static_cast<int>(fd), text, sizeof text - 1);
  raw::Close(static_cast<int>(fd));
  if (size <= 0) return false;
  text[size] = '\0';
  const char* line = strstr(text, "\nTracerPid:\t");
  return line != nullptr && line[sizeof "\nTracerPid:\t" - 1] != '0';
}

}  // namespace

void NoteTracer() {
  if (tracer == Tracer::kUnknown)
    tracer =
        _r_debug.r_map != nullptr && Imports(*_r_debug.r_map).Have("ptrace") ? Tracer::kYes : Tracer::kNo;
}

const char* ReasonOfTracing() {
  if (tracer == Tracer::kYes) return "its parent traces processes (ptrace)";
  return IsTraced() ? "it is being traced (ptrace)" : nullptr;
}

}  // namespace elsewhere::preload
