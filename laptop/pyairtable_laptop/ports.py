"""Which ports are free, and who uses those that are not."""

import errno
import random
import socket
from collections.abc import Iterator
from pathlib import Path

HOST = "127.0.0.1"
_LISTEN = "0A"
_LOCAL_ADDRESS, _STATE, _INODE = 1, 3, 9
_CHOICE = range(20_000, 32_000)
"""Below the ports that kernels give to outgoing connections, so that none is taken between choice and use."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def free() -> Iterator[int]:
    """Ports that nobody listens on, each once, in no order."""
    for port in random.sample(_CHOICE, len(_CHOICE)):
        if is_free(port):
            yield port


def user_of(port: int) -> str:
    """The process that listens on a port, in words; empty when it can't be told (another user's, or no Linux)."""
    inodes = set(_listening(port))
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            process = link.parent.parent
            return f"{_command(process)} (process {process.name})"
    return ""


def _listening(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on a port; the columns are those of proc(5)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for columns in map(str.split, rows):
            if columns[_STATE] == _LISTEN and int(columns[_LOCAL_ADDRESS].rpartition(":")[2], 16) == port:
                yield columns[_INODE]


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return "a process"
    return b" ".join(words).decode(errors="replace")[:120] or "a process"
