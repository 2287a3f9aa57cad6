"""The system calls that the process which reads point clouds may use once it has loaded its libraries.

It reads files that are open, computes, and answers. It opens nothing, connects to nothing, and starts no
program, so a file that takes it over gets no further than its own answer. All other calls fail with EPERM.
"""

import ctypes
import errno
import fcntl
import os
import termios

ALLOWED = frozenset({
    "read", "readv", "pread64", "preadv", "preadv2", "lseek", "write", "writev", "close",
    "fstat", "newfstatat", "statx", "dup", "poll", "ppoll",
    "recvmsg", "recvfrom", "sendto", "sendmsg", "shutdown",
    "brk", "mmap", "munmap", "mremap", "mprotect", "madvise",
    "futex", "futex_waitv", "rseq", "set_robust_list", "sched_yield", "sched_getaffinity",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall",
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "getrandom",
    "getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getrusage",
    "getrlimit", "setrlimit", "prctl", "exit", "exit_group",
})  # fmt: skip
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # of seccomp.h
_EQUAL, _MASKED_EQUAL = 4, 7
_CLONE_THREAD = 0x00010000
_THIS_PROCESS = 0
# Without those that name another process, which would then receive signals.
_OF_FCNTL = (
    fcntl.F_DUPFD, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD_CLOEXEC,
)  # fmt: skip
_OF_IOCTL = (termios.TCGETS, termios.FIOCLEX, termios.FIONCLEX, termios.FIONBIO)


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint), ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64), ("value", ctypes.c_uint64),
    )  # fmt: skip


def confine() -> None:
    """Allow this process nothing else from now on. It must have given up new privileges.

    Raises OSError if the library libseccomp is missing, or the kernel refuses.
    """
    library = _library()
    context = library.seccomp_init(ctypes.c_uint32(_ERRNO | errno.EPERM))
    if not context:
        raise OSError(errno.ENOMEM, "seccomp")
    for name in sorted(ALLOWED):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # this machine has it
            _done(library.seccomp_rule_add_array(context, ctypes.c_uint32(_ALLOW), number, 0, None))
    # Threads, and no processes. With ENOSYS the C library falls back from clone3 to clone.
    _allow_where(library, context, b"clone", _Comparison(0, _MASKED_EQUAL, _CLONE_THREAD, _CLONE_THREAD))
    # Limits of this process. Those of other processes of the account stay as they are.
    _allow_where(library, context, b"prlimit64", _Comparison(0, _EQUAL, _THIS_PROCESS, 0))
    for call, commands in ((b"fcntl", _OF_FCNTL), (b"ioctl", _OF_IOCTL)):
        for command in commands:
            _allow_where(library, context, call, _Comparison(1, _EQUAL, command, 0))
    clone3 = library.seccomp_syscall_resolve_name(b"clone3")
    if clone3 >= 0:
        _done(
            library.seccomp_rule_add_array(context, ctypes.c_uint32(_ERRNO | errno.ENOSYS), clone3, 0, None)
        )
    _done(library.seccomp_load(context))
    library.seccomp_release(context)


def _allow_where(library: ctypes.CDLL, context: int, name: bytes, comparison: _Comparison) -> None:
    number = library.seccomp_syscall_resolve_name(name)
    rule = (context, ctypes.c_uint32(_ALLOW), number, 1, ctypes.byref(comparison))
    _done(library.seccomp_rule_add_array(*rule))


def available() -> bool:
    """Whether `confine` can work here."""
    try:
        _library()
    except OSError:
        return False
    return True


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    for function in (library.seccomp_load, library.seccomp_release):
        function.argtypes = (ctypes.c_void_p,)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p,
    )  # fmt: skip
    return library


def _done(result: int) -> None:
    if result != 0:
        raise OSError(-result, os.strerror(-result))
