"""Names of workers that tell whether whoever bears them still works.

A name holds the machine, the process and when that process began. Whoever runs on the same machine therefore knows at
once that a worker was killed, and takes over what it had claimed; of a worker elsewhere only its lease tells.
"""

import hashlib
import os
import re
import secrets
import socket
from pathlib import Path

_NAME = re.compile(r"(?P<here>.{0,32}:[0-9a-f]{8}):(?P<process>\d+:\d+):(?P<token>[0-9a-f]{8})")
_PROC = Path("/proc")
_working: set[str] = set()  # those of this process


def hired() -> str:
    """Return the name of a new worker of this process, 80 characters at most; see `retired`."""
    began = _began(os.getpid())
    name = f"{_here()}:{os.getpid()}:{began or 0}:{secrets.token_hex(4)}"
    _working.add(name)
    return name


def retired(name: str) -> None:
    """Note that a worker of this process has ended."""
    _working.discard(name)


def is_gone(name: str) -> bool:
    """Return whether a worker has certainly ended; False where nobody here can know."""
    found = _NAME.fullmatch(name)
    here = _here()
    if found is None or not here or found["here"] != here:
        return False
    process, began = map(int, found["process"].split(":"))
    if process == os.getpid() and _began(process) == began:
        return name not in _working
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's, which /proc may hide
        return False
    return _began(process) != began


def _here() -> str:
    """Return what names this machine since it was started, as its processes are numbered here; empty if unknown.

    Containers that share a host name number their processes apart, so the name of that numbering is part of it.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()
        numbering = os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return ""
    host = socket.gethostname()
    return f"{host[:32]}:{hashlib.sha256(f'{host} {boot} {numbering}'.encode()).hexdigest()[:8]}"


def _began(process: int) -> int | None:
    """Return when a process began, in clock ticks since the machine did; None where it has ended."""
    try:
        told = (_PROC / str(process) / "stat").read_text()
    except OSError:
        return None
    state, *fields = told.rpartition(")")[2].split()  # the name before may hold anything
    return None if state in "ZX" else int(fields[18])
