"""The way to Helm: imported only by who needs it, with words for a meshctl that was installed without it."""

from importlib import import_module
from typing import TYPE_CHECKING

from pyairtable_mesh.meshctl.cluster.place import Place
from pyairtable_mesh.meshctl.problems import Problem

if TYPE_CHECKING:
    from pyairtable_mesh.meshctl.cluster.helm import Helm

SECONDS = 60.0
"""For what Helm is only asked; a change has its own timeout besides."""
PENDING = "pending-"
"""How the status of a release begins that Helm works on, or has left in the middle."""


async def opened(place: Place, seconds: float = SECONDS) -> "tuple[Helm, str]":
    """Helm, and its version. Raises `Problem` when it, or pyhelm3, is not there or too old."""
    try:
        helm = import_module("pyairtable_mesh.meshctl.cluster.helm")
    except ModuleNotFoundError as error:
        if error.name != "pyhelm3":
            raise
        raise Problem("This needs pyhelm3, which is not installed.", "pip install 'pyairtable-mesh[cluster]'") from None
    found: Helm = helm.find(place, seconds)
    version: str = await helm.version_of(found)
    return found, version


def interrupted(place: Place, status: str) -> Problem:
    """A release that is in the middle of a change."""
    return Problem(
        f"Release {place.release} in {place.namespace} is {status}: a change is under way, or was interrupted.",
        f"wait for it; if it was interrupted: helm rollback {place.release} --namespace {place.namespace}"
        f", or meshctl uninstall{place.options()}",
    )
