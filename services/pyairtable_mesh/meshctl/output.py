"""What goes to standard output: tables for people, JSON and YAML for programs."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import click
import rich.box
import rich.console
import rich.table
import rich.text
import yaml
from google.protobuf import json_format
from google.protobuf.message import Message

from pyairtable_mesh.meshctl.problems import printable

Form = Literal["table", "json", "yaml"]

COLOURS = {
    "ok": "green",
    "ready": "green",
    "healthy": "green",
    "current": "green",
    "warn": "yellow",
    "draining": "yellow",
    "behind": "yellow",
    "fail": "red",
    "refused": "red",
    "unhealthy": "red",
    "no endpoints": "red",
    "problem": "red",
    "allowed": "green",
    "conditional": "yellow",
    "denied": "red",
    "compatible": "green",
    "other answers": "yellow",
    "breaking": "red",
}
"""Words of state, and their colour on a terminal."""

output_option = click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="Form of the output.",
)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under titles; `notes` are lines below."""

    titles: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str] = ()


def to_data(message: Message) -> Any:
    """The canonical JSON form of a message, with the fields that have their default value.

    Raises TypeError for an Any of a type that the message's pool does not have.
    """
    pool: Any = message.DESCRIPTOR.file.pool
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True, descriptor_pool=pool)


def emit(form: Form, data: Any, table: Callable[[], Table]) -> None:
    """Write `data` as JSON or YAML, or the table."""
    if form == "table":
        print_table(table())
    else:
        print_data(form, data)


def print_data(form: Literal["json", "yaml"], data: Any, *, lines: bool = False) -> None:
    """Write `data` for programs; see `dumps`."""
    click.echo(dumps(form, data, lines=lines))


def dumps(form: Literal["json", "yaml"], data: Any, *, lines: bool = False) -> str:
    """`data` as text; with `lines` as one of many: a line of JSON, a document of YAML."""
    if form == "json":
        return json.dumps(data, ensure_ascii=False, indent=None if lines else 2)
    plain = json.loads(json.dumps(data))  # protobuf makes an OrderedDict of an Any, which safe_dump refuses
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    return ("---\n" if lines else "") + text.rstrip("\n")


def print_table(table: Table) -> None:
    """A table of rich on a terminal, aligned columns where output is piped; nothing but the notes without rows."""
    rows = [tuple(printable(cell) or "-" for cell in row) for row in table.rows]
    if rows and sys.stdout.isatty():
        _print_rich(table.titles, rows)
    elif rows:
        widths = [max(len(row[i]) for row in (table.titles, *rows)) for i in range(len(table.titles))]
        for line in (table.titles, *rows):
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for note in table.notes:
        click.echo(printable(note))


def _print_rich(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    shown = rich.table.Table(*titles, box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        shown.add_row(*(rich.text.Text(cell, COLOURS.get(cell, ""), overflow="fold") for cell in row))
    rich.console.Console().print(shown)


def print_line(text: str, *, state: str = "") -> None:
    """A line; the word of state before it is in its colour on a terminal, unless NO_COLOR (no-color.org) is set."""
    painted = click.style(f"{state:<6}", fg=COLOURS.get(state)) if state else ""
    click.echo(painted + printable(text), color=False if os.environ.get("NO_COLOR") else None)


def joined(items: Iterable[object], limit: int = 3) -> str:
    """The first few of many, and how many more there are."""
    known: Sequence[str] = [str(item) for item in items]
    more = f" +{len(known) - limit}" if len(known) > limit else ""
    return ", ".join(known[:limit]) + more


def clear() -> None:
    """Empty the terminal; a line between two outputs where there is none."""
    if sys.stdout.isatty():
        click.clear()
    else:
        click.echo()
