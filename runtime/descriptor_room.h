// How near an agent is to its limit of open files (RLIMIT_NOFILE, raised to the hard limit at its start). An
// agent that can open nothing more can serve nobody: a child that may already run elsewhere gets no answer,
// and who waits for it waits forever. So children stop coming while there is still room for what those that
// run will open, and the last few numbers end the session with a message.
#pragma once

#include <cstddef>
#include <string>

namespace elsewhere::runtime {

class DescriptorRoom {
 public:
  DescriptorRoom();

  // Whether a quarter of the numbers is free, and at least kLeastFree, which is what is kept for the pipes,
  // connections and files of those that run already and for children that stay at home.
  bool ForChild();
  // Of a number that the kernel has just given, which is always the lowest free one.
  bool IsLast(int descriptor) const { return static_cast<size_t>(descriptor) + kLast >= limit_; }
  size_t limit() const { return limit_; }

  std::string NoChild() const;  // the reason why a child cannot come
  std::string NoMore() const;   // the message that ends a session

 private:
  static constexpr size_t kLast = 4;
  // Some four children, from their capture on until it is given up: ten each.
  static constexpr size_t kLeastFree = 40;

  const size_t limit_;
  bool was_half_full_ = false;
};

}  // namespace elsewhere::runtime
