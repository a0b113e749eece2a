"""``python -m pyairtable_mesh <service>``: one process, one service."""

import sys
from importlib import import_module
from importlib.util import find_spec

from pyairtable_mesh.runtime.process import run

NAMES = ("permission", "user", "audit")


def main() -> None:
    """Run the service that the first argument names."""
    name, *arguments = sys.argv[1:] or [""]
    if name not in NAMES or find_spec(f"pyairtable_mesh.{name}") is None:
        sys.exit(f"usage: python -m pyairtable_mesh {{{','.join(NAMES)}}} [serve | migrate]")
    run(import_module(f"pyairtable_mesh.{name}.app").service, arguments)


if __name__ == "__main__":
    main()
