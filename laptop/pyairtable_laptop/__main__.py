"""``python -m pyairtable_laptop run``: the whole platform on this machine, until Ctrl-C."""

import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import click

NEEDED = ("pyairtable_mesh", "pyairtable_operator", "pyairtable.permission.v1", "pyairtable.user.v1")


class Instances(click.ParamType[tuple[str, int]]):
    """``user=2``: how many instances of a service."""

    name = "SERVICE=N"
    most = 8

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """The service and the number."""
        service, _, number = value.partition("=")
        known = import_module("pyairtable_laptop.plan").services()
        if service not in known or not number.isdecimal() or not 1 <= int(number) <= self.most:
            self.fail(f"give a service ({', '.join(known)}) and 1 to {self.most}, as in user=2", param, ctx)
        return service, int(number)


DATA = click.option(
    "--data",
    default=".pyairtable",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of databases, keys and logs.",
)


@click.group()
def main() -> None:
    """Run PyAirtable Mesh on a laptop, without any cluster. For development only."""


@main.command()
@DATA
@click.option("--instances", multiple=True, type=Instances(), help="Several instances of a service; may be repeated.")
@click.option("--free-ports", is_flag=True, help="Take whatever ports are free.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="For people, or one object a line.")
def run(data: Path, instances: tuple[tuple[str, int], ...], free_ports: bool, output: Literal["text", "json"]) -> None:
    """Start every service and the control plane, make demo data, and end all of it with Ctrl-C."""
    begun = time.monotonic()
    for module in NEEDED:
        if not _there(module):
            raise click.ClickException(f"{module} is not installed for this Python. Run `uv sync`, or `make run`.")
    platform = import_module("pyairtable_laptop.platform")
    platform.run(platform.Options(data, dict(instances), free_ports, output, begun))


@main.command()
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@DATA
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Port of its RPCs. [default: a free one]")
def join(name: str, command: tuple[str, ...], data: Path, port: int) -> None:
    """Run COMMAND as the service NAME beside a platform that runs, until Ctrl-C.

    \b
      python -m pyairtable_laptop join greeter -- python service.py

    COMMAND finds its settings in the environment: whatever is built on pyairtable_mesh.runtime reads them by itself.
    It is in the mesh while its grpc.health.v1 says SERVING, and is started again when it ends.
    """
    joining = import_module("pyairtable_laptop.join")
    joining.run(joining.Options(name, command, data, port))


@main.command("new-service")
@click.argument("name")
def new_service(name: str) -> None:
    """Make a service NAME in this repository: proto, servicer, access table, test."""
    template = import_module("pyairtable_laptop.new_service")
    try:
        written = template.make(name, Path.cwd())
    except template.RefusedError as error:
        raise click.ClickException(str(error)) from None
    for path in written:
        click.echo(f"  {path.relative_to(Path.cwd())}")
    click.echo("Code is generated. Start it with the others: make run. Then call it:")
    click.echo(f'  .venv/bin/meshctl call {name} SayHello \'{{"name": "you"}}\'')


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    main(prog_name="python -m pyairtable_laptop")
