"""``python -m pyairtable_mesh <service>``: one process, one service."""

import gc
import sys
from importlib import import_module
from pathlib import Path


def names() -> list[str]:
    """The services of this release: the packages beside this file that have a composition root."""
    return sorted(app.parent.name for app in Path(__file__).parent.glob("*/app.py") if app.parent.name != "meshctl")


def main() -> None:
    """Run the service that the first argument names."""
    name, *arguments = sys.argv[1:] or [""]
    if name not in names():
        sys.exit(f"usage: python -m pyairtable_mesh {{{','.join(names())}}} [serve | migrate]")
    # What is imported and built at start is no garbage; `garbage.settle` turns the collector on when that is done.
    gc.disable()
    run = import_module("pyairtable_mesh.runtime.process").run
    run(import_module(f"pyairtable_mesh.{name}.app").service, arguments)


if __name__ == "__main__":
    main()
