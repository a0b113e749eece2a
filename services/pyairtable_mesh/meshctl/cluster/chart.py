"""Which chart is installed, and with which values."""

import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import click

from pyairtable_mesh.meshctl.cluster.place import timeout_option
from pyairtable_mesh.meshctl.problems import Problem

if TYPE_CHECKING:
    from pyairtable_mesh.meshctl.cluster.helm import Helm

FOLDER = Path("charts/pyairtable")
PUBLISHED = "oci://ghcr.io/pyairtable/charts/pyairtable"
HA = "values-ha.yaml"
_PAIR = re.compile(r"[^=]+=.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Values:
    """What is set for a release, as Helm's own options take it."""

    files: tuple[str, ...]
    pairs: tuple[str, ...]
    texts: tuple[str, ...]
    """Pairs of a name and a file whose content is the value."""
    ha: bool

    def options(self) -> list[str]:
        """Options of Helm, but for ``--ha``, which is a file of the chart."""
        found: list[str] = []
        for option, given in (("--values", self.files), ("--set", self.pairs), ("--set-file", self.texts)):
            for each in given:
                found += (option, each)
        return found


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that Helm can read, and the options for its values."""

    reference: str
    version: str
    """To ask a registry for; empty for a file or a folder."""
    options: tuple[str, ...]


def default_chart(here: Path) -> str:
    """The chart of the checkout that `here` is in; the published one elsewhere."""
    for folder in (here, *here.parents):
        if (folder / FOLDER / "Chart.yaml").is_file():
            return str(folder / FOLDER)
    return PUBLISHED


async def resolved(given: str, values: Values, helm: "Helm", stack: AsyncExitStack) -> Chart:
    """The chart that is meant; one from a registry is fetched for ``--ha``. Raises `Problem`."""
    reference = given or default_chart(Path.cwd())
    remote = reference.startswith("oci://")
    version = metadata.version("pyairtable-mesh") if reference == PUBLISHED else ""
    if not values.ha:
        return Chart(reference, version, tuple(values.options()))
    folder = Path(reference)
    if remote:
        fetched = await helm.fetched(reference, version)
        stack.callback(rmtree, fetched, ignore_errors=True)
        folder = next((found.parent for found in fetched.glob("*/Chart.yaml")), folder)
    if not (folder / HA).is_file():
        raise Problem(f"{reference} has no {HA}, which --ha stands for.", "name the file that you mean: --values FILE")
    options = ("--values", str(folder / HA), *values.options())
    return Chart(str(folder), "" if remote else version, options)


def _pairs(_context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    for each in given:
        if not _PAIR.fullmatch(each):
            raise click.BadParameter(f"{each.partition('=')[0]!r} has no value: NAME=VALUE", param=parameter)
    return given


_FILE = click.Path(exists=True, dir_okay=False)
_OPTIONS = (
    click.option(
        "--chart",
        default="",
        metavar="CHART",
        help=f"Folder, archive or oci:// reference of the chart. Default: {FOLDER} of the checkout that this is called"
        f" in, else {PUBLISHED} in the version of this meshctl.",
    ),
    click.option(
        "-f", "--values", "files", multiple=True, type=_FILE, metavar="FILE", help="Values in YAML; repeatable."
    ),
    click.option("--set", "pairs", multiple=True, callback=_pairs, metavar="NAME=VALUE", help="A value; repeatable."),
    click.option(
        "--set-file", "texts", multiple=True, callback=_pairs, metavar="NAME=FILE", help="A value that is in a file."
    ),
    click.option("--ha", is_flag=True, help=f"Several replicas on PostgreSQL: {HA} of the chart, before other values."),
    timeout_option,
    click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until everything is ready."),
    click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing."),
)


def chart_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a chart, its values and how it is installed."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
