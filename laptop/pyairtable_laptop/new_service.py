"""``make new-service NAME=greeter``: a service that is discovered and called, for its author to change.

The files are those of `template/`, with ``$name`` and ``$Name`` filled in; their places in the repository are their
places in that folder. Nothing else has to be edited: services, ports and packages are found, not listed.
"""

import keyword
import re
import subprocess
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

_NAME = re.compile(r"[a-z][a-z0-9]{1,29}")
_TAKEN = frozenset({"common", "mesh", "meshctl", "runtime", "control"})


class RefusedError(Exception):
    """The service can't be made; the message says why and what to do."""


def make(name: str, root: Path) -> list[Path]:
    """Write the files of a new service below `root`, and generate its code; the files that were written by hand."""
    if not _NAME.fullmatch(name) or name in _TAKEN or keyword.iskeyword(name):
        raise RefusedError(
            f"{name!r} can't be the name: 2 to 30 lower-case letters and digits, no word of Python or of ours"
        )
    if not (root / "protos" / "pyairtable").is_dir():
        raise RefusedError(f"{root.resolve()} is not the repository: run this in its top folder")
    values = {"name": name, "Name": name.capitalize()}
    texts = {
        root / Template(place).substitute(values): Template(source.read_text()).substitute(values)
        for place, source in _walk(files("pyairtable_laptop").joinpath("template"))
    }
    there = [path for path in texts if path.exists()]
    if there:
        raise RefusedError(f"{there[0]} is there already; take another name, or remove it")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    _generate(root)
    return list(texts)


def _walk(folder: Traversable, prefix: str = "") -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        place = f"{prefix}{entry.name}"
        if entry.is_dir():
            found.extend(_walk(entry, f"{place}/"))
        elif entry.name.endswith(".txt"):
            found.append((place.removesuffix(".txt"), entry))
    return sorted(found, key=lambda pair: pair[0])


def _generate(root: Path) -> None:
    command = ["make", "-C", str(root / "protos"), "generate-protoc", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own Makefile
    if done.returncode:
        raise RefusedError(f"the files are written, but code could not be generated:\n{done.stdout}{done.stderr}")
