"""Which ports are free, and who uses those that are not."""

import os
from collections.abc import Iterator

from pyairtable_mesh.meshctl.environment import run_program
from pyairtable_mesh.meshctl.machine import LocalMachine

HOST = "127.0.0.1"
_CHOICE = range(20_000, 32_000)
"""Below the ports that kernels give to outgoing connections, so that none is taken between choice and use."""
_BLOCK = 50
"""Ports that lie between those of two processes with neighbouring ids; most runs take fewer."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback now."""
    return LocalMachine(run_program).port_is_free(port)


def user_of(port: int) -> str:
    """The process that listens on a port, in words with the next step where it can't be told."""
    known = LocalMachine(run_program).port_user(port)
    return known or f"another process, which this names: lsof -nP -iTCP:{port} -sTCP:LISTEN"


def free() -> Iterator[int]:
    """Ports that nobody listens on, each once. Where it begins depends on the process, so that two runs which choose
    at the same time do not choose the same.
    """
    begin = os.getpid() * _BLOCK
    choice = (_CHOICE[(begin + step) % len(_CHOICE)] for step in range(len(_CHOICE)))
    return (port for port in choice if is_free(port))
