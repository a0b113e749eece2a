"""The command line: which commands there are. Each is imported when it is called, so that help comes at once."""

import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from pyairtable_mesh.meshctl.problems import EXIT_CODES, INTERRUPTED, WRONG, Problem

COMMANDS = {
    "check": ("check", "Look whether this machine has what the platform needs."),
    "doctor": ("doctor", "Look for what is wrong with a running platform."),
    "install": ("cluster.install", "Install the platform in a Kubernetes cluster."),
    "upgrade": ("cluster.install", "Upgrade a release in a Kubernetes cluster."),
    "uninstall": ("cluster.uninstall", "Remove a release from a Kubernetes cluster."),
    "status": ("status", "Show the mesh at a glance."),
    "services": ("mesh", "List the services that clients can reach by name."),
    "endpoints": ("mesh", "List the addresses that services answer at."),
    "clients": ("mesh", "List who is connected to the control plane, and who refuses what it serves."),
    "permission": ("permission.commands", "Ask who may do what, and why; try and compare schemas."),
    "call": ("call", "Call a method of a service with a request in JSON."),
    "login": ("login", "Get and keep a token of the development issuer."),
    "logout": ("login", "Forget tokens."),
}
"""Name of a command -> its module in this package, and what it does in one line."""


class Commands(click.Group):
    """A group that knows its commands' names and one-line helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"pyairtable_mesh.meshctl.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what it fails with is told in words."""
        try:
            return super().invoke(ctx)
        except Problem as problem:
            problem.show()
            ctx.exit(problem.exit_code)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])


@click.group(
    cls=Commands,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="pyairtable-mesh", message="meshctl %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Look at a PyAirtable mesh, and call its services.

    \b
    First steps on a laptop, with the platform running (make run):
      meshctl doctor
      meshctl login --user alice
      meshctl call user GetMe

    \b
    In a Kubernetes cluster, that of the kubeconfig's current context:
      meshctl check --cluster
      meshctl install
      meshctl status --cluster
    """
    if context.obj is None:
        context.obj = import_module("pyairtable_mesh.meshctl.environment").of_process()


def main() -> NoReturn:
    """Run meshctl and end the process with its exit code; a fault of meshctl itself is told in words, too."""
    try:
        cli.main(prog_name="meshctl")
    except Exception as error:
        if os.environ.get("PYAIRTABLE_DEBUG"):
            raise
        click.echo(f"Error: meshctl has a fault of its own ({type(error).__name__}).", err=True)
        click.echo("Next:  set PYAIRTABLE_DEBUG=1, run it again, and report what it prints.", err=True)
    sys.exit(WRONG)
