"""Confinement of a process that decodes what strangers have sent (Linux; elsewhere nothing happens).

Two mechanisms of the kernel work without privileges, also in containers. Landlock
(docs.kernel.org/userspace-api/landlock) limits files, TCP and signals. A seccomp filter
(docs.kernel.org/userspace-api/seccomp_filter) refuses the calls that would open sockets, start programs or reach other
processes. The kernel lifts neither before the process ends.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import riffstream

__all__ = ["FILES", "NETWORK", "code_folders", "confine"]

FILES: Final = "files"
NETWORK: Final = "network"

_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2  # prctl
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # Landlock's calls, the same on all processors
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_FILE_RIGHTS: Final = (1 << 0) | (1 << 1) | _READ_FILE | (1 << 14) | (1 << 15)  # those that a file can have
_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # rights over files, by version; later ones add none
_TCP, _SCOPES = 0b11, 0b11  # bind and connect; abstract sockets and signals
_SYSTEM: Final = (
    *("/usr", "/lib", "/lib64", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/etc/localtime", "/sys/devices/system/cpu"),
)
_DEVICES: Final = ("/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/proc/self")

_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH of linux/audit.h
# Numbers on x86_64 and aarch64 of the calls that are refused.
_REFUSED: Final = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "pidfd_open": (434, 434),
    "io_uring_setup": (425, 425),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "keyctl": (250, 219),
}
# Calls that name a process: allowed for the own one (abort) or for "this one" (the limits of threads).
_OWN: Final = {"tgkill": (234, 131), "prlimit64": (302, 261)}


def confine(read: Iterable[Path] = (), write: Iterable[Path] = ()) -> tuple[str, ...]:
    """Take all files but the given ones, the network, programs and other processes from this process, permanently.

    Call it while the process has one thread, and after the import of what decodes: its libraries may lie anywhere.
    Memory and time are limited elsewhere (``setrlimit``).

    Args:
        read: files and folders to read.
        write: folders to write below; they must exist.

    Returns:
        :data:`FILES` and :data:`NETWORK` if the kernel enforces them.
    """
    if sys.platform != "linux":
        return ()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        return ()
    enforced = []
    if _limit_files(libc, tuple(read), tuple(write)):
        enforced.append(FILES)
    if _refuse_calls(libc):
        enforced.append(NETWORK)
    return tuple(enforced)


def code_folders() -> tuple[Path, ...]:
    """What a Python process reads for itself: interpreter, packages, libraries and facts of the processor.

    The working folder is not one of them, though ``python -m`` adds it to ``sys.path``.
    """
    given = [sys.prefix, sys.base_prefix, str(Path(riffstream.__file__).parent), *sys.path, *_SYSTEM, *_DEVICES]
    here = Path.cwd()
    return tuple(path for path in dict.fromkeys(Path(each) for each in given if each) if path != here)


def _limit_files(libc: ctypes.CDLL, read: tuple[Path, ...], write: tuple[Path, ...]) -> bool:
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    rights = (1 << _RIGHTS.get(version, max(_RIGHTS.values()))) - 1
    handled = [rights]
    if version >= 4:
        handled.append(_TCP)
    if version >= 6:
        handled.append(_SCOPES)
    attributes = struct.pack(f"={len(handled)}Q", *handled)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        for paths, allowed in ((read, _READ_FILE | _READ_FOLDER), (write, rights & ~1)):  # nothing may be executed
            for path in paths:
                _allow(libc, ruleset, path, allowed)
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    """Add a path to the ruleset; one that cannot be opened gives no rights."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = struct.pack("=Qi", rights if path.is_dir() else rights & _FILE_RIGHTS, place)
        libc.syscall(_ADD_RULE, ruleset, 1, rule, 0)
    finally:
        os.close(place)


def _refuse_calls(libc: ctypes.CDLL) -> bool:
    machine = platform.machine()
    if machine not in _ARCHITECTURES or sys.maxsize < 2**32:
        return False
    program = b"".join(_program(machine))
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    return bool(libc.prctl(_SET_SECCOMP, _FILTER, described, 0, 0) == 0)


def _program(machine: str) -> Iterator[bytes]:
    """Instructions of classic BPF: refused calls fail with EPERM, all others are allowed."""
    load, equal, at_least, end = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050001

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    column = list(_ARCHITECTURES).index(machine)
    yield step(load, 4)
    yield step(equal, _ARCHITECTURES[machine], 1)
    yield step(end, refuse)  # a call of the 32-bit interface
    yield step(load, 0)
    yield step(at_least, 0x40000000, 0, 1)
    yield step(end, refuse)  # a call of x32
    for numbers in _REFUSED.values():
        yield step(equal, numbers[column], 0, 1)
        yield step(end, refuse)
    for numbers in _OWN.values():
        yield step(equal, numbers[column], 0, 5)
        yield step(load, 16)  # lower half of the first argument, a process number
        yield step(equal, os.getpid(), 2)
        yield step(equal, 0, 1)
        yield step(end, refuse)
        yield step(end, allow)
    yield step(end, allow)


if __name__ == "__main__":  # what this system enforces, for riffstream doctor
    print(*confine(code_folders()))
