// vfork(): a jump to libc's, because the frame of a function in between would be gone when the parent returns through it.
// On a worker the child needs a pid of the session, so it is an ordinary fork there, which POSIX permits.
//
// Offsets: self.host is the first member of Self (self.h); a RealFunction is one pointer (real.h).
	.text
	.globl	vfork
	.type	vfork, @function
	.p2align 4
vfork:
	.cfi_startproc
	endbr64
	cmpl	$0, _ZN9elsewhere7preload4selfE(%rip)
	jne	_ZN9elsewhere7preload5hooks4forkEv
	jmp	*_ZN9elsewhere7preload4real5vforkE(%rip)
	.cfi_endproc
	.size	vfork, .-vfork
	.section .note.GNU-stack,"",@progbits
