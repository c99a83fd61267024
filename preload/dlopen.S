// dlopen() without RTLD_DEEPBIND, which would bind what is loaded to libc directly, past every hook: PHP loads its
// extensions so, and their getppid and kill would speak of pids that only the kernel of a worker knows.
// A jump, because libc takes the search path of whoever dlopen returns to.
	.text
	.globl	dlopen
	.type	dlopen, @function
	.p2align 4
dlopen:
	.cfi_startproc
	endbr64
	andl	$-9, %esi  // RTLD_DEEPBIND is 8
	cmpb	$0, _ZN9elsewhere7preload8has_mapsE(%rip)
	je	1f
	pushq	%rsi
	.cfi_adjust_cfa_offset 8
	call	_ZN9elsewhere7preload13MappedLibraryEPKc
	popq	%rsi
	.cfi_adjust_cfa_offset -8
	movq	%rax, %rdi
1:
	jmp	*_ZN9elsewhere7preload4real6dlopenE(%rip)
	.cfi_endproc
	.size	dlopen, .-dlopen
	.section .note.GNU-stack,"",@progbits
