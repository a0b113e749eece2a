"""What the machine that meshctl runs on has: versions, programs, ports."""

import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

HOST = "127.0.0.1"
_LISTEN = "0A"
_LOCAL_ADDRESS, _STATE, _INODE = 1, 3, 9
_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")
_MAX_COMMAND = 100


class Machine(Protocol):
    """What `check` asks about a machine."""

    def python(self) -> str:
        """The version of Python that runs meshctl."""

    def distribution(self, name: str) -> str:
        """The version of an installed distribution; empty when it is not installed."""

    def program(self, command: Sequence[str]) -> str | None:
        """The version that a program tells when called so; empty when it tells none, None when it is not there."""

    def port_is_free(self, port: int) -> bool:
        """Whether a server could listen on this port of the loopback now."""

    def port_user(self, port: int) -> str:
        """The command and process id of who listens on a port; empty when that cannot be told."""


@dataclass(frozen=True, slots=True)
class LocalMachine:
    """This machine."""

    run: Callable[[Sequence[str]], subprocess.CompletedProcess[str]]

    def python(self) -> str:
        """See `Machine`."""
        return platform.python_version()

    def distribution(self, name: str) -> str:
        """See `Machine`."""
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return ""

    def program(self, command: Sequence[str]) -> str | None:
        """See `Machine`."""
        found = shutil.which(command[0])
        if found is None:
            return None
        try:
            done = self.run([found, *command[1:]])
        except (OSError, subprocess.TimeoutExpired):
            return ""
        version = _VERSION.search(done.stdout or done.stderr)
        return version.group() if version and done.returncode == 0 else ""

    def port_is_free(self, port: int) -> bool:
        """See `Machine`."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                probe.listen(1)
            except OSError:
                return False
        return True

    def port_user(self, port: int) -> str:
        """See `Machine`; Linux only, and only processes of the same user."""
        inodes = set(_listening(port))
        for link in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
            try:
                target = str(link.readlink())
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    process = link.parent.parent
                    words = (process / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
                    return f"{words.decode(errors='replace')[:_MAX_COMMAND]} (process {process.name})"
            except OSError:  # it has ended meanwhile, or is another user's
                continue
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
