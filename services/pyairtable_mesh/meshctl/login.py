"""``meshctl login`` and ``logout``: tokens of the development issuer."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from pyairtable_mesh.meshctl.credentials import Credentials, Token
from pyairtable_mesh.meshctl.environment import Environment
from pyairtable_mesh.meshctl.problems import Problem

ISSUER = "pyairtable_laptop"
"""The distribution that never is in a release image, so it is found by name."""


@click.command()
@click.option("--user", required=True, help="A name of the demo data, such as alice or bob, or a user id.")
@click.option("--tenant", default="", help="Tenant id. [default: the demo tenant]")
@click.option(
    "--data", default=".pyairtable", show_default=True, help="The platform's data folder, which has the keys."
)
@click.option(
    "--show", is_flag=True, help="Print the token that is kept instead of getting one, for grpcurl and scripts."
)
@click.pass_obj
def login(environment: Environment, user: str, tenant: str, data: str, show: bool) -> None:
    """Get a token of the development issuer for a user, and keep it for `meshctl call`.

    \b
      meshctl login --user alice
      grpcurl -H "authorization: Bearer $(meshctl login --user alice --show)" ...

    It is kept in $XDG_CONFIG_HOME/pyairtable/credentials.json, readable by you alone. PYAIRTABLE_TOKEN goes before it.
    """
    credentials = Credentials(environment.variables)
    if show:
        if kept := credentials.token(user):
            click.echo(kept.text)
        return
    token = issue(environment, user, tenant, data)
    credentials.keep(user, token.text)
    until = f", until {token.expiry:%Y-%m-%d %H:%M} UTC" if token.expiry else ""
    click.echo(f"Logged in as {user}: {token.subject} in {token.tenant}{until}.")
    if credentials.overridden:
        click.echo("PYAIRTABLE_TOKEN is set and goes before it. Next: unset PYAIRTABLE_TOKEN")


@click.command()
@click.option("--user", default="", help="Only this user. [default: all]")
@click.pass_obj
def logout(environment: Environment, user: str) -> None:
    """Forget the tokens that are kept here. They stay valid until they expire."""
    gone = Credentials(environment.variables).forget(user)
    click.echo(f"Forgot {', '.join(gone)}." if gone else "There was nothing to forget.")


def issue(environment: Environment, user: str, tenant: str, data: str) -> Token:
    """Let the development issuer sign a token. Raises `Problem` with what it says when it does not."""
    if find_spec(ISSUER) is None:
        raise Problem(
            "The development issuer is not installed here: it is part of a development checkout, never of a release.",
            "get a token from your platform's auth service, and put it into PYAIRTABLE_TOKEN",
        )
    if not Path(data).is_dir():  # the issuer would make new keys there, which no running service knows
        raise Problem(
            f"There is no data folder {data} here.", "go to where the platform was started, or name it: --data"
        )
    command = [sys.executable, "-m", f"{ISSUER}.issuer", "token", "--user", user, "--data", data]
    try:
        done = environment.run_program([*command, "--tenant", tenant] if tenant else command)
    except (OSError, subprocess.TimeoutExpired):
        raise Problem("The development issuer does not answer.", "meshctl check") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()][-3:]
        raise Problem(f"The development issuer gave no token for {user}.", "meshctl login --help", details=said)
    return Token.read(done.stdout.strip())
