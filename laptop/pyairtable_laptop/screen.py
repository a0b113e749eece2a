"""What a run tells: lines for people, coloured on a terminal and plain in a pipe, or JSON for programs."""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.text import Text

from pyairtable_laptop.demo import Made
from pyairtable_laptop.folder import DEFAULT, DataFolder
from pyairtable_laptop.people import BOB, PEOPLE, TABLE, TENANT
from pyairtable_laptop.plan import CONTROL_PLANE, FIXED_PORTS
from pyairtable_laptop.ports import HOST
from pyairtable_laptop.supervisor import Event, State

_STYLES = {"ended": "bold red", "unready": "yellow", "killed": "bold red"}
_LABEL = 9
DEFAULT_CONTROL_PLANE = f"{HOST}:{FIXED_PORTS[CONTROL_PLANE].grpc}"


@dataclass(frozen=True, slots=True)
class Ready:
    """The platform when it has come up; `seconds` since the command was given."""

    seconds: float
    data: Path
    states: Sequence[State]
    calls: Sequence[Made]

    def address(self, service: str) -> str:
        """``host:port`` of a service's first instance."""
        return next(state.address for state in self.states if state.name == service)


class Screen(Protocol):
    """Where a run tells what happens."""

    def event(self, event: Event) -> None:
        """Something happened to a process."""

    def ready(self, ready: Ready) -> None:
        """The platform is there: the first screen."""

    def say(self, words: str) -> None:
        """A sentence about the run itself."""


class Output(Console):
    """Standard output; `gone` is called when nobody reads it any more, and what is written after that is lost."""

    def __init__(self, gone: Callable[[], None]) -> None:
        super().__init__(highlight=False)
        self._gone = gone

    def on_broken_pipe(self) -> None:
        """Rich would end this process here, with all the others still running."""
        with suppress(SystemExit):
            super().on_broken_pipe()
        self._gone()


class JsonScreen:
    """One JSON object a line: ``{"event": …}``."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def event(self, event: Event) -> None:
        """See `Screen`."""
        self._write(event=event.kind, process=event.process, pid=event.pid, words=event.words, lines=event.lines)

    def ready(self, ready: Ready) -> None:
        """See `Screen`."""
        self._write(
            event="ready",
            seconds=ready.seconds,
            data=str(ready.data),
            processes=[asdict(state) for state in ready.states],
            calls=[asdict(call) for call in ready.calls],
            tenant=TENANT,
            users={person.name: person.id for person in PEOPLE},
        )

    def say(self, words: str) -> None:
        """See `Screen`."""
        self._write(event="said", words=words)

    def _write(self, **members: object) -> None:
        self._console.out(json.dumps(members), highlight=False)


class TextScreen:
    """Lines for people. Lines to paste are never wrapped."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_ready = False

    def event(self, event: Event) -> None:
        """See `Screen`; what is normal at a start is left to the first screen."""
        if event.kind == "started" or (event.kind == "serving" and not self._is_ready):
            return
        self._print(event.words, _STYLES.get(event.kind, "green"))
        for line in event.lines:
            self._print(f"    {line}", "dim")

    def ready(self, ready: Ready) -> None:
        """See `Screen`."""
        self._is_ready = True
        self._print(f"PyAirtable Mesh is up, {ready.seconds:.1f} s after the command.", "bold")
        self._print()
        for state in ready.states:
            word, style = ("SERVING", "green") if state.serving else ("NOT SERVING", "red")
            line = Text(f"  {state.name:<14} {state.address:<16} ").append(word, style)
            self._print(line.append(f"  process {state.pid}", "dim"))
        for call in ready.calls:
            self._print()
            word, style = ("allowed", "green") if call.allowed else ("denied", "red")
            self._print(Text(f"  {word:<{_LABEL}}", style).append(f"{call.person}: {call.call}  ->  {call.answer}", ""))
            self._print(f"  {'':<{_LABEL}}{_readable(call.why)}", "dim")
        self._lines(ready)

    def joined(self, state: State, folder: DataFolder, control_plane: str) -> None:
        """A service of one's own takes calls: the lines to paste, then where it is."""
        self._is_ready = True
        self._print(f"{state.name} takes calls as xds:///{state.name}, and by these lines:", "bold")
        self._print(f"  {program('meshctl')} login --user alice{_data(folder.root)}", "cyan")
        self._print(f"  {program('meshctl')} call{_where(control_plane)} {state.name} METHOD '{{}}'", "cyan")
        self._print()
        self._print(f"  {'Address':<{_LABEL}}{state.address}, process {state.pid}")
        self._print(f"  {'Log':<{_LABEL}}{folder.logs / state.name}.log")
        self._print(f"  {'Ctrl-C':<{_LABEL}}ends it")

    def say(self, words: str) -> None:
        """See `Screen`."""
        self._print(words)

    def _lines(self, ready: Ready) -> None:
        for title, lines in commands(ready).items():
            self._print()
            self._print(f"  {title}", "bold")
            for line in lines:
                self._print(f"  {line}", "cyan")
        self._print()
        self._print(f"  {'Data':<{_LABEL}}{ready.data}: stays until you remove it")
        self._print(f"  {'Logs':<{_LABEL}}{ready.data / 'logs'}: a file for each process")
        self._print(f"  {'Ctrl-C':<{_LABEL}}ends everything")
        self._print()

    def _print(self, words: str | Text = "", style: str = "") -> None:
        line = words if isinstance(words, Text) else Text(words)
        self._console.print(line, style=style, soft_wrap=True)


def _readable(sentence: str) -> str:
    """The sentence with names in the place of the demo data's ids."""
    for person in PEOPLE:
        sentence = sentence.replace(person.subject, person.name)
    return sentence.replace(f"tenant:{TENANT}", "the demo tenant")


def commands(ready: Ready) -> dict[str, list[str]]:
    """Lines to paste into another terminal in the same folder, under a title for each kind."""
    where, data = _where(ready.address(CONTROL_PLANE)), _data(ready.data)
    meshctl, python = program("meshctl"), program(Path(sys.executable).name)
    get_user = f'\'{{"name": "{BOB.resource_name}"}}\''
    check = f'\'{{"resource": "{TABLE}", "permission": "create_record"}}\''
    grpcurl = 'grpcurl -plaintext -H "authorization: Bearer $TOKEN" -d'
    missing = "" if shutil.which("grpcurl") else ", which is not installed here"
    return {
        "Log in (alice, bob or carol) and call": [
            f"{meshctl} login --user alice{data}",
            f"{meshctl} call{where} user GetUser {get_user}",
            f"{meshctl} call{where} permission CheckPermission {check}",
        ],
        f"The same with grpcurl{missing}": [
            f"TOKEN=$({python} -m pyairtable_laptop.issuer token --user alice{data})",
            f"{grpcurl} {get_user} {ready.address('user')} pyairtable.user.v1.UserService/GetUser",
            f"{grpcurl} {check} {ready.address('permission')}"
            " pyairtable.permission.v1.PermissionService/CheckPermission",
        ],
    }


def _where(control_plane: str) -> str:
    return "" if control_plane == DEFAULT_CONTROL_PLANE else f" --control-plane {control_plane}"


def _data(folder: Path) -> str:
    return "" if folder == DEFAULT else f" --data {folder}"


def program(name: str) -> str:
    """How to call a program of this environment from the present folder."""
    here = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found and Path(found) == here:
        return name
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)
