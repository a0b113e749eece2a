"""gRPC is told which thread reads clients' connections before it is imported, in words that it knows."""

import os
import subprocess
import sys

from pyairtable_operator import polling

SERVER = "import grpc; from concurrent import futures; grpc.server(futures.ThreadPoolExecutor(1))"


def said(choice: str, script: str = SERVER) -> str:
    """What a program that chooses for gRPC writes to its standard error."""
    environment = {**os.environ, polling.VARIABLE: choice}
    run = subprocess.run([sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE, text=True, check=True)
    return run.stderr


def test_grpc_knows_the_choice() -> None:
    assert "Unknown experiment" in said("-no_such_thing")
    assert said(polling.CHOICE) == ""


def test_who_has_chosen_keeps_the_choice() -> None:
    chosen, open_ = {polling.VARIABLE: "other"}, dict[str, str]()
    for environment in (chosen, open_):
        polling.choose(environment)
    assert (chosen, open_) == ({polling.VARIABLE: "other"}, {polling.VARIABLE: polling.CHOICE})


def test_grpc_is_not_imported_before_it_is_told() -> None:
    said(polling.CHOICE, "import pyairtable_operator.__main__, sys; assert 'grpc' not in sys.modules, 'imported'")
