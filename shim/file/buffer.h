// Buffer: memory for a piece of a file on its way to or from the store.
//
// Large ones are kept for the next: memory that is new to the process costs the kernel more, page by page,
// than the copying for which it is wanted. What is kept is bounded. Thread-safety: buffers from any thread,
// each by one.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

namespace elsewhere::file {

class Buffer {
 public:
  explicit Buffer(size_t size);  // its content means nothing
  ~Buffer();
  Buffer(Buffer&& other) noexcept = default;
  Buffer& operator=(Buffer&& other) noexcept = default;

  char* data() { return memory_.get(); }
  size_t size() const { return size_; }
  std::span<char> room() { return {memory_.get(), size_}; }
  std::string_view view() const { return {memory_.get(), size_}; }

 private:
  std::unique_ptr<char[]> memory_;
  size_t size_;
};

}  // namespace elsewhere::file
