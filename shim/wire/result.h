// Result<T>: a value or an Error. Errors are values here; one place per boundary turns them into errno or a
// message. Thread-safety: none of its own, like any value.
#pragma once

#include <cerrno>
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace elsewhere {

// `code` is an errno value, so that a hook can hand it to its caller; `message` is one line for people,
// without a trailing newline: what is wrong, the value seen, what to do.
struct Error {
  int code = EIO;
  std::string message;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // Asking a failed Result for its value, or a good one for its error, is a bug in the caller and ends the
  // process.
  T& value() & {
    if (!ok()) std::abort();
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    if (!ok()) std::abort();
    return *std::get_if<0>(&state_);
  }
  T&& value() && { return std::move(value()); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(value()); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const {
    if (ok()) std::abort();
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, Error> state_;
};

struct Ok {};
using Status = Result<Ok>;

}  // namespace elsewhere
