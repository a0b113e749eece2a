"""Calls for a person: whose token goes along, where they go, and that no token travels unencrypted."""

import click

from pyairtable_mesh.meshctl import control_plane, rpc
from pyairtable_mesh.meshctl.credentials import Credentials
from pyairtable_mesh.meshctl.environment import Environment
from pyairtable_mesh.meshctl.problems import Problem

UNARY_SECONDS = 10.0

user_option = click.option(
    "--as", "user", metavar="USER", default="", help="Call as this user, who has logged in before."
)
address_option = click.option(
    "--address", metavar="HOST:PORT", default="", help="Call this address; the control plane is not asked."
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Deadline. [default: 10; none for streams]",
)


def authorization(environment: Environment, user: str) -> list[tuple[str, str | bytes]]:
    """The header with the token in use; none without a login. Raises `Problem` when it has expired."""
    token = Credentials(environment.variables).token(user)
    if token is None:
        return []
    if token.expired(environment.now()):
        raise Problem("The token has expired.", f"meshctl login --user {user or 'NAME'}")
    return [("authorization", f"Bearer {token.text}")]


def require_private(address: str, metadata: rpc.Metadata) -> None:
    """Raise `Problem` for a token that would leave this machine unencrypted."""
    if not rpc.is_loopback(address) and any(key == "authorization" for key, _ in metadata):
        words = f"A token does not go to {address} unencrypted."
        raise Problem(words, "forward a port (kubectl port-forward) and name it with --address 127.0.0.1:PORT")


async def inventory(environment: Environment, plane: str) -> control_plane.Inventory:
    """The services that the control plane at an address knows."""
    async with control_plane.opened(environment.connect, plane, environment.control_plane_token) as opened:
        return await opened.inventory()
