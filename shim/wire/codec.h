// Reader and Writer: little-endian fields one after the other, lengths before bytes.
//
// A Reader never looks past its span. Its first bad field makes it fail for good: later fields read as zero
// or empty, and ok() is false. So a decoder reads everything, then asks once. A length is checked against
// what is left before anything is allocated for it. Ownership: a Reader borrows its bytes, and what ReadView
// returns borrows them too. Thread-safety: like any value.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

namespace elsewhere::wire {

static_assert(std::endian::native == std::endian::little, "fields are written as they lie in memory");

template <class T>
concept Scalar = std::is_integral_v<T> || std::is_enum_v<T>;

// A type that lists its own fields: `template <class Self> static auto Fields(Self& self)` returning a tie.
template <class T>
concept Record = requires(T& value) {
  T::Fields(value);
};

class Writer {
 public:
  template <Scalar T>
  void Write(T value) {
    if constexpr (std::is_same_v<T, bool>) {
      bytes_.push_back(value ? 1 : 0);
    } else {
      const size_t at = bytes_.size();
      bytes_.resize(at + sizeof value);
      std::memcpy(bytes_.data() + at, &value, sizeof value);
    }
  }
  void Write(std::span<const uint8_t> value) {
    Write(static_cast<uint32_t>(value.size()));
    bytes_.insert(bytes_.end(), value.begin(), value.end());
  }
  void Write(const std::vector<uint8_t>& value) { Write(std::span<const uint8_t>(value)); }
  void Write(std::string_view value) {
    Write(std::span(reinterpret_cast<const uint8_t*>(value.data()), value.size()));
  }
  void Write(const std::string& value) { Write(std::string_view(value)); }
  template <class T>
  requires(!std::is_same_v<T, uint8_t>) void Write(const std::vector<T>& values) {
    Write(static_cast<uint32_t>(values.size()));
    for (const T& value : values) Write(value);
  }
  template <class T, size_t N>
  void Write(const std::array<T, N>& values) {
    for (const T& value : values) Write(value);
  }
  template <Record T>
  void Write(const T& value) {
    std::apply([&](const auto&... field) { (Write(field), ...); }, T::Fields(value));
  }

  std::vector<uint8_t>& bytes() { return bytes_; }
  std::vector<uint8_t> Take() { return std::move(bytes_); }

 private:
  std::vector<uint8_t> bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : rest_(bytes) {}

  bool ok() const { return ok_; }
  bool AtEnd() const { return ok_ && rest_.empty(); }
  size_t left() const { return rest_.size(); }

  template <Scalar T>
  void Read(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      uint8_t byte = 0;
      Read(byte);
      if (byte > 1) Fail();
      value = byte == 1;
    } else {
      value = T{};
      const auto bytes = Take(sizeof value);
      if (ok_) std::memcpy(&value, bytes.data(), sizeof value);
    }
  }
  std::span<const uint8_t> ReadView() {
    uint32_t size = 0;
    Read(size);
    return Take(size);
  }
  void Read(std::vector<uint8_t>& value) {
    const auto view = ReadView();
    value.assign(view.begin(), view.end());
  }
  void Read(std::string& value) {
    const auto view = ReadView();
    value.assign(view.begin(), view.end());
  }
  template <class T>
  requires(!std::is_same_v<T, uint8_t>) void Read(std::vector<T>& values) {
    values.clear();
    uint32_t count = 0;
    Read(count);
    if (count > left()) Fail();  // every element takes a byte at least
    for (uint32_t i = 0; i < count && ok_; ++i) Read(values.emplace_back());
  }
  template <class T, size_t N>
  void Read(std::array<T, N>& values) {
    for (T& value : values) Read(value);
  }
  template <Record T>
  void Read(T& value) {
    std::apply([&](auto&... field) { (Read(field), ...); }, T::Fields(value));
  }

 private:
  std::span<const uint8_t> Take(size_t size) {
    if (size > rest_.size()) Fail();
    if (!ok_) return {};
    const auto taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  void Fail() {
    ok_ = false;
    rest_ = {};
  }

  std::span<const uint8_t> rest_;
  bool ok_ = true;
};

}  // namespace elsewhere::wire
