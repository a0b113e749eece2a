import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from pyairtable_laptop.demo import Made
from pyairtable_laptop.folder import DataFolder
from pyairtable_laptop.screen import JsonScreen, Ready, TextScreen, commands
from pyairtable_laptop.supervisor import Event, State

LONG = "because " * 40
ENDED = Event("ended", "user", 7, "user was ended by SIGKILL", ("its last line",))


def ready(data: str = ".pyairtable", control_plane: int = 18000) -> Ready:
    ports = {"control-plane": control_plane, "permission": 50051, "user": 50061}
    states = [State(name, name, f"127.0.0.1:{port}", f"127.0.0.1:{port}", 7, True) for name, port in ports.items()]
    allowed = Made("alice", "user GetUser", True, "Bob Baker", LONG)
    denied = Made("carol", "user GetUser", False, "NOT_FOUND", "no")
    return Ready(4.2, Path(data), states, [allowed, denied])


def test_in_a_pipe_there_are_no_control_codes_and_no_wrapped_lines() -> None:
    pipe = io.StringIO()
    screen = TextScreen(Console(file=pipe, highlight=False))
    screen.ready(ready())
    screen.event(ENDED)
    assert "\x1b" not in pipe.getvalue()
    lines = pipe.getvalue().splitlines()
    assert any(line.strip() == LONG.strip() for line in lines)
    for command in (line for some in commands(ready()).values() for line in some):
        assert f"  {command}" in lines
    assert lines[-2:] == ["user was ended by SIGKILL", "    its last line"]


def test_a_terminal_has_colour() -> None:
    terminal = io.StringIO()
    TextScreen(Console(file=terminal, force_terminal=True, highlight=False)).ready(ready())
    assert "\x1b[32mSERVING" in terminal.getvalue()


def test_what_is_normal_at_a_start_is_left_to_the_first_screen() -> None:
    pipe = io.StringIO()
    screen = TextScreen(Console(file=pipe))
    serving = Event("serving", "user", 7, "user takes calls")
    screen.event(Event("started", "user", 7, "user started"))
    screen.event(serving)
    assert pipe.getvalue() == ""
    screen.ready(ready())
    screen.event(serving)
    assert pipe.getvalue().endswith("user takes calls\n")


@pytest.mark.parametrize(
    ("control_plane", "data", "login", "call"),
    [
        ("127.0.0.1:18000", ".pyairtable", "login --user alice", "call greeter METHOD '{}'"),
        (
            "127.0.0.1:7",
            "/data",
            "login --user alice --data /data",
            "call --control-plane 127.0.0.1:7 greeter METHOD '{}'",
        ),
    ],
)
def test_who_has_joined_is_told_how_it_is_called(control_plane: str, data: str, login: str, call: str) -> None:
    pipe = io.StringIO()
    screen = TextScreen(Console(file=pipe, highlight=False))
    state = State("greeter", "greeter", "127.0.0.1:1", "127.0.0.1:2", 7, True)
    screen.joined(state, DataFolder(Path(data)), control_plane)
    lines = pipe.getvalue().splitlines()
    assert lines[0] == "greeter takes calls as xds:///greeter, and by these lines:"
    assert [line.partition("meshctl ")[2] for line in lines[1:3]] == [login, call]
    assert f"  Log      {data}/logs/greeter.log" in lines
    screen.event(Event("serving", "greeter", 8, "greeter takes calls again"))
    assert pipe.getvalue().endswith("greeter takes calls again\n")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (ready(), "call user GetUser"),
        (ready(control_plane=20001), "call --control-plane 127.0.0.1:20001 user GetUser"),
        (ready(data="/elsewhere"), "login --user alice --data /elsewhere"),
        (ready(), "issuer token --user alice)"),
        (ready(data="/elsewhere"), "issuer token --user alice --data /elsewhere)"),
    ],
)
def test_the_lines_to_paste_name_what_is_not_the_default(given: Ready, words: str) -> None:
    assert any(words in line for lines in commands(given).values() for line in lines)


def test_programs_get_an_object_a_line() -> None:
    pipe = io.StringIO()
    screen = JsonScreen(Console(file=pipe))
    screen.event(ENDED)
    screen.ready(ready())
    screen.say("bye")
    ended, up, said = map(json.loads, pipe.getvalue().splitlines())
    assert ended == {
        "event": "ended",
        "process": "user",
        "pid": 7,
        "words": "user was ended by SIGKILL",
        "lines": ["its last line"],
    }
    assert (up["event"], up["processes"][2]["address"]) == ("ready", "127.0.0.1:50061")
    assert up["calls"][1]["answer"] == "NOT_FOUND"
    assert said == {"event": "said", "words": "bye"}
