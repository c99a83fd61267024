// Entry of elsewhere-restorer: moves to a stack of our own before anything else, because the one the kernel made lies
// where images have theirs and is unmapped soon.
        .text
        .globl  _start
        .type   _start, @function
_start:
        xorl    %ebp, %ebp
        leaq    elsewhere_restorer_stack_end(%rip), %rsp
        call    elsewhere_restorer_main
        hlt
        .size   _start, . - _start

        .bss
        .balign 4096
        .skip   65536
        .globl  elsewhere_restorer_stack_end
elsewhere_restorer_stack_end:
        .skip   64

        .section .note.GNU-stack, "", @progbits
