"""Runs a module as a process that ends when its supervisor does, however that happened (kill -9 included).

    python -m pyairtable_laptop.leash <descriptor> <module> [argument …]

The descriptor is the reading end of a pipe whose other end only the supervisor has: the kernel closes it with the
supervisor. This works on every Unix; Linux's PR_SET_PDEATHSIG is bound to a thread and is not elsewhere.
"""

import os
import runpy
import signal
import sys
import threading
import time

END_SECONDS = 3.0
"""How long the process may take to end by itself once it is alone."""


def main(arguments: list[str]) -> None:
    """Watch the pipe from a thread, and become the module."""
    descriptor, module, *rest = arguments
    threading.Thread(target=_end_with, args=(int(descriptor),), name="leash", daemon=True).start()
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_SECONDS)
    os._exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
