// See context.h. Offsets are those of elsewhere::image::Registers.
#include <sys/syscall.h>

        .text
        .globl  elsewhere_context_save
        .hidden elsewhere_context_save
        .type   elsewhere_context_save, @function
elsewhere_context_save:
        .cfi_startproc
        endbr64
        movq    %rbx, 0(%rdi)
        movq    %rbp, 8(%rdi)
        movq    %r12, 16(%rdi)
        movq    %r13, 24(%rdi)
        movq    %r14, 32(%rdi)
        movq    %r15, 40(%rdi)
        leaq    8(%rsp), %rax
        movq    %rax, 48(%rdi)
        movq    (%rsp), %rax
        movq    %rax, 56(%rdi)
        stmxcsr 64(%rdi)
        fnstcw  68(%rdi)
        xorl    %eax, %eax
        ret
        .cfi_endproc
        .size   elsewhere_context_save, . - elsewhere_context_save

        .globl  elsewhere_context_enter
        .hidden elsewhere_context_enter
        .type   elsewhere_context_enter, @function
elsewhere_context_enter:
        .cfi_startproc
        .cfi_undefined rip
        endbr64
1:      movq    0(%r13), %rdi
        movq    8(%r13), %rsi
        testq   %rsi, %rsi
        jz      2f
        movl    $SYS_munmap, %eax
        syscall
        addq    $16, %r13
        jmp     1b
2:      movq    %r12, %rdx
        fninit
        fldcw   68(%rdx)
        ldmxcsr 64(%rdx)
        movq    0(%rdx), %rbx
        movq    8(%rdx), %rbp
        movq    16(%rdx), %r12
        movq    24(%rdx), %r13
        movq    32(%rdx), %r14
        movq    40(%rdx), %r15
        movq    48(%rdx), %rsp
        movl    $1, %eax
        cld
        jmp     *56(%rdx)
        .cfi_endproc
        .size   elsewhere_context_enter, . - elsewhere_context_enter

        .section .note.GNU-stack, "", @progbits
