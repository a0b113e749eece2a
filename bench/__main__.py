"""``python -m bench``: measures what the README states, each figure beside its goal.

    python -m bench                     all of it, in a few minutes
    python -m bench xds endpoint        some of it
    python -m bench --list              what there is
    python -m bench --quick             a little of everything, to see that it works; the figures mean nothing
    python -m bench --output json       one object a line

A goal that is missed is shown as missed and does not change the exit status: 1 stands for what could not be measured.
Figures are worth something on a machine that does nothing else.
"""

import argparse
import importlib
import sys
from typing import Any

from bench import figures
from bench.measure import BenchmarkError

BENCHMARKS = (
    "stack",
    "xds",
    "endpoint",
    "streams",
    "start",
    "platform",
    "generation",
    "permission",
    "engine",
    "openfga",
    "replica",
)


def main() -> int:
    """Run what is named, or everything."""
    arguments = _arguments()
    if arguments.list:
        for name in BENCHMARKS:
            print(f"{name:<12} {(_module(name).__doc__ or '').strip().splitlines()[0]}")
        return 0
    show = figures.line if arguments.output == "json" else figures.row
    if arguments.output == "table":
        figures.heading()
    failed = False
    for name in arguments.names or BENCHMARKS:
        try:
            for figure in _module(name).measure(quick=arguments.quick):
                show(figure, f"python -m bench {name}" + " --quick" * arguments.quick)
        except BenchmarkError as error:
            print(f"{name} could not be measured: {error}", file=sys.stderr)
            failed = True
    return int(failed)


def _arguments() -> argparse.Namespace:
    about, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        "python -m bench", description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help="what to measure; without any, everything")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--quick", action="store_true", help="see that it works, in seconds")
    parser.add_argument("--output", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHMARKS]:
        parser.error(f"there is no {unknown[0]!r}; choose from {', '.join(BENCHMARKS)}")
    return arguments


def _module(name: str) -> Any:
    return importlib.import_module(f"bench.{name}")


if __name__ == "__main__":
    sys.exit(main())
