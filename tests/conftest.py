"""Options of the whole test tree."""

import signal

import pytest

pytest_plugins = ["tests.databases"]

# Ignored, as in a background job of a script, it would be so for every program that a test ends with Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write golden files anew instead of comparing with them")
