"""Runs a command under a seccomp filter that answers io_uring_setup(2) with EPERM, as container runtimes do."""

import ctypes
import os
import platform
import struct
import sys

IO_URING_SETUP = 425  # the same on every architecture (asm-generic/unistd.h)
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LD_W_ABS, JEQ_K, RET_K = 0x20, 0x15, 0x06
ALLOW, ERRNO_EPERM = 0x7FFF0000, 0x00050001


def instruction(code, true, false, k):
    return struct.pack("HBBI", code, true, false, k)


def main():
    program = b"".join(
        [
            instruction(LD_W_ABS, 0, 0, 0),  # the system call's number
            instruction(JEQ_K, 0, 1, IO_URING_SETUP),
            instruction(RET_K, 0, 0, ERRNO_EPERM),
            instruction(RET_K, 0, 0, ALLOW),
        ]
    )
    code = ctypes.create_string_buffer(program)
    # struct sock_fprog: a count, padding, a pointer.
    fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, fprog, 0, 0):
        sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())} on {platform.machine()}")
    os.execvp(sys.argv[1], sys.argv[1:])


main()
