// Finding the real functions.
//
// dlsym(RTLD_NEXT) takes the loader's lock and may allocate, so it may not be called from a signal handler,
// from inside malloc or between vfork and exec, where a first call can come. Instead the loader's list of
// objects is read directly: it is in load order, which is the search order of everything that was there at
// start-up, so the first object after our own that defines the name is what RTLD_NEXT would find. Only when
// we were loaded by dlopen is libc before us; then the search wraps around. Lookup is by DT_GNU_HASH (every
// object that a glibc of this century links has it); of several versions of a symbol the default one is
// taken, as dlsym does.
#include "preload/real.h"

#include <errno.h>
#include <link.h>
#include <string.h>

#include <cstddef>
#include <cstdint>

namespace elsewhere::preload {
namespace {

constexpr uint32_t GnuHash(const char* name) {
  uint32_t hash = 5381;
  for (; *name != '\0'; ++name) hash = hash * 33 + static_cast<unsigned char>(*name);
  return hash;
}

struct Entry {
  const char* name;
  uint32_t hash;
  void* slot;  // the RealFunction, as the word that it is

  void Set(void* function) const { __atomic_store_n(static_cast<void**>(slot), function, __ATOMIC_RELAXED); }
};

// One loaded object's symbol tables, as its dynamic section names them.
class SymbolTable {
 public:
  explicit SymbolTable(const link_map& object) : base_(object.l_addr) {
    for (const ElfW(Dyn)* entry = object.l_ld; entry->d_tag != DT_NULL; ++entry) {
      if (entry->d_tag == DT_GNU_HASH) hash_ = At<uint32_t>(entry->d_un.d_ptr);
      if (entry->d_tag == DT_SYMTAB) symbols_ = At<ElfW(Sym)>(entry->d_un.d_ptr);
      if (entry->d_tag == DT_STRTAB) strings_ = At<char>(entry->d_un.d_ptr);
      if (entry->d_tag == DT_VERSYM) versions_ = At<ElfW(Half)>(entry->d_un.d_ptr);
    }
  }

  // The function's address, or null.
  void* Find(const char* name, uint32_t hash) const {
    if (hash_ == nullptr || symbols_ == nullptr || strings_ == nullptr || hash_[0] == 0) return nullptr;
    const uint32_t bucket_count = hash_[0], first_symbol = hash_[1], bloom_size = hash_[2],
                   bloom_shift = hash_[3];
    const auto* bloom = reinterpret_cast<const ElfW(Addr)*>(hash_ + 4);
    constexpr uint32_t kBits = sizeof(ElfW(Addr)) * 8;
    const ElfW(Addr) word = bloom[(hash / kBits) % bloom_size];
    if (((word >> (hash % kBits)) & (word >> ((hash >> bloom_shift) % kBits)) & 1) == 0) return nullptr;
    const auto* buckets = reinterpret_cast<const uint32_t*>(bloom + bloom_size);
    const uint32_t* chains = buckets + bucket_count;
    uint32_t index = buckets[hash % bucket_count];
    if (index < first_symbol) return nullptr;
    for (;; ++index) {
      const uint32_t chain = chains[index - first_symbol];
      if ((chain | 1) == (hash | 1) && IsDefaultFunction(index) &&
          strcmp(strings_ + symbols_[index].st_name, name) == 0)
        return reinterpret_cast<void*>(base_ + symbols_[index].st_value);
      if ((chain & 1) != 0) return nullptr;
    }
  }

 private:
  // The loader has added the base to these addresses already, except where the dynamic section is read-only.
  template <class T>
  const T* At(ElfW(Addr) address) const {
    return reinterpret_cast<const T*>(address < base_ ? base_ + address : address);
  }

  bool IsDefaultFunction(uint32_t index) const {
    constexpr ElfW(Half) kHiddenVersion = 0x8000;
    const ElfW(Sym)& symbol = symbols_[index];
    return symbol.st_shndx != SHN_UNDEF && ELF64_ST_TYPE(symbol.st_info) == STT_FUNC &&
           (versions_ == nullptr || (versions_[index] & kHiddenVersion) == 0);
  }

  ElfW(Addr) base_;
  const uint32_t* hash_ = nullptr;
  const ElfW(Sym) * symbols_ = nullptr;
  const char* strings_ = nullptr;
  const ElfW(Half) * versions_ = nullptr;
};

// What a name that this libc does not have leads to: the call fails as a system call that the kernel lacks.
long MissingFunction() {
  errno = ENOSYS;
  return -1;
}

#define EVERY(R, name, P, A) \
  R FirstCall_##name P {     \
    ResolveRealFunctions();  \
    return real::name A;     \
  }
#include "preload/hooks.def"

}  // namespace

namespace real {
#define EVERY(R, name, P, A) constinit RealFunction<R P> name{FirstCall_##name};
#include "preload/hooks.def"
}  // namespace real

namespace {

#define EVERY(R, name, P, A) Entry{#name, GnuHash(#name), &real::name},
constinit const Entry kEntries[] = {
#include "preload/hooks.def"
};
static_assert(sizeof(real::read) == sizeof(void*));
constexpr size_t kEntryCount = sizeof(kEntries) / sizeof(kEntries[0]);

// `found` keeps a name at the first object that has it.
void SearchObject(const link_map& object, bool (&found)[kEntryCount]) {
  const SymbolTable table(object);
  for (size_t i = 0; i < kEntryCount; ++i) {
    if (found[i]) continue;
    void* function = table.Find(kEntries[i].name, kEntries[i].hash);
    if (function == nullptr) continue;
    kEntries[i].Set(function);
    found[i] = true;
  }
}

}  // namespace

__attribute__((constructor)) void ResolveRealFunctions() {
  bool found[kEntryCount] = {};
  const link_map* self = _r_debug.r_map;
  while (self != nullptr && self->l_ld != _DYNAMIC) self = self->l_next;
  const link_map* first = self != nullptr ? self->l_next : _r_debug.r_map;
  for (const link_map* object = first; object != nullptr; object = object->l_next)
    SearchObject(*object, found);
  for (const link_map* object = _r_debug.r_map; object != self; object = object->l_next)
    SearchObject(*object, found);
  for (size_t i = 0; i < kEntryCount; ++i) {
    if (!found[i]) kEntries[i].Set(reinterpret_cast<void*>(&MissingFunction));
  }
}

}  // namespace elsewhere::preload
