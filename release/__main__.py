"""Steps of a release that have no tool of their own. The Makefile calls them: see release.mk."""

import argparse
import hashlib
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from release import changelog, go_module, versions

ROOT = Path(__file__).parents[1]
CHANGELOG = ROOT / "CHANGELOG.md"
CHECKSUMS = "SHA256SUMS"


def check(_: argparse.Namespace) -> None:
    """Refuse versions that differ."""
    if found := list(versions.differing(ROOT)):
        raise ValueError(f"the version is {versions.current(ROOT)}, but:\n  " + "\n  ".join(found))


def move(arguments: argparse.Namespace) -> None:
    """Put the next version everywhere, and make the changelog's unreleased section its own."""
    closed = changelog.close(CHANGELOG.read_text(), arguments.version, datetime.now(UTC).date())
    versions.move(ROOT, arguments.version)
    CHANGELOG.write_text(closed)


def notes(arguments: argparse.Namespace) -> None:
    """Print the changelog's section of the present version; with --dry-run that of what is unreleased will do."""
    text = CHANGELOG.read_text()
    try:
        found = changelog.section(text, versions.current(ROOT))
    except ValueError:
        if not arguments.dry_run:
            raise
        found = changelog.section(text, changelog.UNRELEASED)
    sys.stdout.write(found)


def module(arguments: argparse.Namespace) -> None:
    """Write the Go module."""
    go_module.write(ROOT / "protos/generated/go", versions.current(ROOT), arguments.folder, ROOT / "LICENSE")


def checksums(arguments: argparse.Namespace) -> None:
    """Write SHA256SUMS over everything in the folder: `sha256sum --check` reads it."""
    files = sorted(path for path in arguments.folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(arguments.folder)}\n" for path in files
    ]
    (arguments.folder / CHECKSUMS).write_text("".join(lines))


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    steps = parser.add_subparsers(required=True)

    def step(name: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        added = steps.add_parser(name, help=run.__doc__)
        added.set_defaults(run=run)
        return added

    step("check", check)
    step("move", move).add_argument("version")
    step("notes", notes).add_argument("--dry-run", action="store_true")
    step("go-module", module).add_argument("folder", type=Path)
    step("checksums", checksums).add_argument("folder", type=Path)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
