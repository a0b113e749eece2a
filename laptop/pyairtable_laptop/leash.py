"""Becomes a command that ends when its supervisor does, however that happened (kill -9 included).

    python leash.py <descriptor> <command> [argument …]

The descriptor is the reading end of a pipe whose other end only the supervisor has: the kernel closes it with the
supervisor. A child watches it, so that signals and exit status are those of the command, which may be any program.
This works on every Unix; Linux's PR_SET_PDEATHSIG is bound to a thread and is not elsewhere.
"""

import os
import select
import signal
import sys
import time
from contextlib import suppress

END_SECONDS = 3.0
"""How long the command may take to end by itself once it is alone."""
LOOK_SECONDS = 1.0
POLL_SECONDS = 0.02


def main(arguments: list[str]) -> None:
    """Leave a child to watch the pipe, and become the command."""
    descriptor, command = int(arguments[0]), arguments[1:]
    process = os.getpid()
    if os.fork() == 0:
        _watch(descriptor, process)
        return
    os.close(descriptor)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command is the supervisor's own
    except OSError as error:
        sys.exit(f"{command[0]} can't be started: {error.strerror}")


def _watch(descriptor: int, process: int) -> None:
    # While this is still its parent, the number is still that of the process.
    while not select.select([descriptor], [], [], LOOK_SECONDS)[0]:
        if os.getppid() != process:
            return
    for number in (signal.SIGTERM, signal.SIGKILL):
        latest = time.monotonic() + END_SECONDS
        if os.getppid() == process:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        while os.getppid() == process and time.monotonic() < latest:
            time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
