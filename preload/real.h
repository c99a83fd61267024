// real::x calls libc's x (or that of whatever other library interposes it behind us).
//
// The pointers are hidden, constant-initialised words: a call costs one load and one indirect jump. Each
// begins as a first-call function that finds all of them, so a call works at any time: from a constructor
// that runs before ours, from inside malloc, in a signal handler. Thread-safe and async-signal-safe: several
// resolvers store equal values.
#pragma once

#include "preload/signatures.h"

namespace elsewhere::preload {

// One pointer and nothing else: the resolver stores to it as a word.
template <class Signature>
class RealFunction;

template <class R, class... A>
class RealFunction<R(A...)> {
 public:
  constexpr explicit RealFunction(R (*first_call)(A...)) : function_(first_call) {}
  R operator()(A... arguments) const { return __atomic_load_n(&function_, __ATOMIC_RELAXED)(arguments...); }

 private:
  R (*function_)(A...);
};

namespace real {
#define EVERY(R, name, P, A) extern RealFunction<R P> name;
#include "preload/hooks.def"
}  // namespace real

// Finds every real function now.
void ResolveRealFunctions();

}  // namespace elsewhere::preload
