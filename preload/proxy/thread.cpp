#include "preload/proxy/thread.h"

#include <sched.h>
#include <ucontext.h>

#include "shim/wire/raw_syscall.h"

// The system calls of x86-64 leave rcx and r11 undefined and keep the rest.
__asm__(
    ".text\n"
    ".hidden elsewhere_proxy_clone\n"
    ".globl elsewhere_proxy_clone\n"
    ".type elsewhere_proxy_clone, @function\n"
    "elsewhere_proxy_clone:\n"  // (flags, stack with function and argument on it)
    "  movl $56, %eax\n"
    "  xorl %edx, %edx\n"
    "  xorl %r10d, %r10d\n"
    "  xorl %r8d, %r8d\n"
    "  syscall\n"
    "  testq %rax, %rax\n"
    "  jnz 1f\n"
    "  xorl %ebp, %ebp\n"
    "  popq %rax\n"
    "  popq %rdi\n"
    "  call *%rax\n"
    "  hlt\n"
    "1:ret\n"

    ".hidden elsewhere_proxy_call\n"
    ".globl elsewhere_proxy_call\n"
    ".type elsewhere_proxy_call, @function\n"
    "elsewhere_proxy_call:\n"  // (cancelled, job, number, arguments)
    "  movq %rdx, %rax\n"
    "  movq %rcx, %r11\n"
    ".hidden elsewhere_proxy_call_begin\n"
    ".globl elsewhere_proxy_call_begin\n"
    "elsewhere_proxy_call_begin:\n"
    "  cmpq (%rdi), %rsi\n"
    "  je elsewhere_proxy_call_given_up\n"
    "  movq 0(%r11), %rdi\n"
    "  movq 8(%r11), %rsi\n"
    "  movq 16(%r11), %rdx\n"
    "  movq 24(%r11), %r10\n"
    "  movq 32(%r11), %r8\n"
    "  movq 40(%r11), %r9\n"
    "  syscall\n"
    ".hidden elsewhere_proxy_call_end\n"
    ".globl elsewhere_proxy_call_end\n"
    "elsewhere_proxy_call_end:\n"
    "  ret\n"
    ".hidden elsewhere_proxy_call_given_up\n"
    ".globl elsewhere_proxy_call_given_up\n"
    "elsewhere_proxy_call_given_up:\n"
    "  movq $-4, %rax\n"
    "  ret\n"

    ".hidden elsewhere_proxy_return_from_signal\n"
    ".globl elsewhere_proxy_return_from_signal\n"
    ".type elsewhere_proxy_return_from_signal, @function\n"
    "elsewhere_proxy_return_from_signal:\n"
    "  movl $15, %eax\n"
    "  syscall\n");

extern "C" {
long elsewhere_proxy_clone(long flags, void* stack);
long elsewhere_proxy_call(const uint64_t* cancelled, uint64_t job, long number, const int64_t* arguments);
extern const char elsewhere_proxy_call_begin[];
extern const char elsewhere_proxy_call_end[];
extern const char elsewhere_proxy_call_given_up[];
}

namespace elsewhere::proxy {

long StartThread(void (*run)(void*), void* argument, void* stack_end) {
  auto* stack = static_cast<uint64_t*>(stack_end) - 2;
  stack[0] = reinterpret_cast<uint64_t>(run);
  stack[1] = reinterpret_cast<uint64_t>(argument);
  return elsewhere_proxy_clone(
      CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, stack);
}

long CallUnless(const uint64_t* cancelled, uint64_t job, long number, const int64_t* arguments) {
  return elsewhere_proxy_call(cancelled, job, number, arguments);
}

void Interrupt(void* context) {
  auto& at = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
  const auto begin = reinterpret_cast<greg_t>(elsewhere_proxy_call_begin);
  const auto end = reinterpret_cast<greg_t>(elsewhere_proxy_call_end);
  if (at >= begin && at < end) at = reinterpret_cast<greg_t>(elsewhere_proxy_call_given_up);
}

}  // namespace elsewhere::proxy
