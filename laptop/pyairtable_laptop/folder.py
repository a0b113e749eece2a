"""The data folder: what the platform keeps on a laptop, and the lock that lets one run at a time use it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

DEFAULT = Path(".pyairtable")


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The places in a data folder; only its owner can read it."""

    root: Path

    @property
    def mesh(self) -> Path:
        """The mesh, as the control plane's file provider reads it: a file of ours, and one of each that joined."""
        return self.root / "mesh"

    @property
    def mesh_file(self) -> Path:
        """The platform's own part of the mesh."""
        return self.mesh / "platform.yaml"

    @property
    def control_plane_file(self) -> Path:
        """``host:port`` of the control plane of the run that uses the folder."""
        return self.root / "control-plane"

    @property
    def demo_file(self) -> Path:
        """Written when the demo data is complete."""
        return self.root / "demo.json"

    @property
    def lock_file(self) -> Path:
        """Locked by the run that uses the folder; holds its process id."""
        return self.root / "lock"

    @property
    def keys(self) -> Path:
        """Private keys and JWKS files of the development issuer."""
        return self.root / "keys"

    @property
    def tokens(self) -> Path:
        """The workload token of each service."""
        return self.root / "tokens"

    @property
    def databases(self) -> Path:
        """A SQLite file for each service."""
        return self.root / "databases"

    @property
    def logs(self) -> Path:
        """What each process wrote, in a file of its own."""
        return self.root / "logs"

    def make(self) -> None:
        """Make the folder and those in it, where they are missing; click.ClickException where that can't be."""
        for place in (self.root, self.mesh, self.keys, self.tokens, self.databases, self.logs):
            try:
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise click.ClickException(
                    f"{place} can't be made: {error.strerror}. Give a folder that you may write to: --data DIR"
                ) from None


@contextmanager
def locked(folder: DataFolder) -> Iterator[None]:
    """Hold the folder for one run; click.ClickException in words while another one holds it."""
    taken, instead = f"the platform runs on {folder.root} already", "give this run a folder of its own: --data DIR"
    with held(folder.lock_file, taken, instead):
        yield


@contextmanager
def held(lock: Path, taken: str, instead: str) -> Iterator[None]:
    """Hold a lock; click.ClickException while another process does: that it is `taken`, by whom, and what to do.

    The kernel lets the lock go with the process, however that ends.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip()
            raise click.ClickException(
                f"{taken} (process {holder or 'unknown'}).\n"
                f"Stop it with Ctrl-C there or `kill {holder or '…'}`, or {instead}"
            ) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(lock: Path) -> bool:
    """Whether a process holds a lock now."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def write_private(path: Path, content: bytes) -> None:
    """Replace a file at once with one that only its owner can read."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    new.replace(path)
