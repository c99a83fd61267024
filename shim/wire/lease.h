// Promoted objects that only one host uses are lent to that host: what they are is then a native object in a
// cell of the host's own table, found by the object's name, and its processes operate on that as if it had
// never been promoted. Home decides (runtime/ipc/README.md) and takes it back when another host asks: the
// cell is marked as promotion marks an object, who waits goes to the agent, and the state goes home.
//
// A cell belongs to one object until that is destroyed, so an operation that comes late finds its own object
// or the mark, never another's state. Two objects whose cells coincide: the second is not lent.
#pragma once

#include <errno.h>

#include "shim/wire/abi.h"

namespace elsewhere::wire {

inline constexpr uint32_t kLeaseCells = 4096;  // the last cells of the table
inline constexpr uint32_t kFirstLeaseCell = abi::kCellCount - kLeaseCells;

// Every kind of object has its name in the same place: a 64-bit `object` behind the first 8 bytes.
template <class Object>
inline Object* LeaseCell(abi::Table* table, uint64_t name) {
  static_assert(sizeof(Object) <= sizeof(abi::Cell) && offsetof(Object, object) == 8);
  // Every host counts its names from the same number: those of two hosts lie apart.
  constexpr uint64_t kApart = 521;
  const uint64_t place = kFirstLeaseCell + (name + (name >> 48) * kApart) % kLeaseCells;
  return reinterpret_cast<Object*>(&table->cells[place]);
}

// nullptr: it was never lent to this host.
template <class Object>
inline Object* LeaseOf(abi::Table* table, uint64_t name) {
  if (table == nullptr || name == 0) return nullptr;
  auto* cell = LeaseCell<Object>(table, name);
  return cell->object.load(std::memory_order_acquire) == name ? cell : nullptr;
}

}  // namespace elsewhere::wire
