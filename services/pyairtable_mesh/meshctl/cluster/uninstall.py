"""``meshctl uninstall``: removes a release with Helm, and names what stays."""

import asyncio
import sys
from dataclasses import dataclass

import click

from pyairtable_mesh.meshctl import output
from pyairtable_mesh.meshctl.cluster import changes, preflight, releases
from pyairtable_mesh.meshctl.cluster.kubectl import Kubectl
from pyairtable_mesh.meshctl.cluster.place import Place, place_options
from pyairtable_mesh.meshctl.environment import Environment
from pyairtable_mesh.meshctl.findings import Finding, Told
from pyairtable_mesh.meshctl.problems import WRONG, Problem

POLICY = "helm.sh/resource-policy"


@dataclass(frozen=True, slots=True)
class Rest:
    """What outlives a release, and how it is removed."""

    names: tuple[str, ...]
    step: str


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="For all of it.",
)
@place_options
@output.output_option
@click.pass_obj
def uninstall(environment: Environment, form: output.Form, place: Place, yes: bool, timeout: float) -> None:
    """Remove a release from a Kubernetes cluster, with Helm.

    Names the cluster and what stays, such as volumes with data, and asks before it removes anything.
    """
    told = Told(form)
    kubectl = Kubectl(environment.run_program, place.context)
    for finding in preflight.reached(kubectl):
        told(finding)
    if told.failed or not asyncio.run(_there(place, told)):
        click.get_current_context().exit(WRONG)
    rests = asyncio.run(_rests(kubectl, place))
    for rest in rests:
        told(Finding("warn", "stays", ", ".join(rest.names), rest.step))
    _confirm(place, yes)
    asyncio.run(_remove(place, timeout))
    told(Finding("ok", f"release {place.release}", f"is gone from {place.namespace}"))


async def _there(place: Place, told: Told) -> bool:
    helm, version = await releases.opened(place)
    told(Finding("ok", "helm", version))
    release = await helm.release()
    if release is None:
        step = f"helm list --all-namespaces tells where releases are{' in this context' if place.context else ''}"
        told(Finding("fail", "release", f"{place.release} is not in {place.namespace}", step))
        return False
    words = f"{place.release} in {place.namespace}, revision {release['version']}, {release['info']['status']}"
    told(Finding("ok", "release", words))
    return True


async def _rests(kubectl: Kubectl, place: Place) -> list[Rest]:
    helm, _ = await releases.opened(place)
    release = await helm.release() or {}
    return await asyncio.to_thread(lambda: rests(kubectl, place, release.get("manifest", "")))


def rests(kubectl: Kubectl, place: Place, manifest: str) -> list[Rest]:
    """What stays: what the chart says is kept, volumes that StatefulSets have claimed, and definitions."""
    made = changes.objects(manifest)
    kept = {name for name, each in made.items() if each["metadata"].get("annotations", {}).get(POLICY) == "keep"}
    claims = kubectl.items("persistentvolumeclaims", "--namespace", place.namespace, "--selector", place.selector)
    kept |= {f"persistentvolumeclaim/{claim['metadata']['name']}" for claim in claims} - made.keys()
    found = []
    if kept:
        names = tuple(sorted(kept))
        found.append(Rest(names, f"with their data: kubectl delete --namespace {place.namespace} {' '.join(names)}"))
    if definitions := preflight.definitions(kubectl):
        step = f"with every object of theirs, in all namespaces: kubectl delete crds {' '.join(definitions)}"
        found.append(Rest(tuple(definitions), step))
    return found


def _confirm(place: Place, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Problem("Nothing is removed without a yes.", "meshctl uninstall --yes" + place.options())
    if not click.confirm(f"Remove release {place.release} from {place.namespace}?", err=True):
        raise Problem("Nothing was removed.")


async def _remove(place: Place, seconds: float) -> None:
    helm, _ = await releases.opened(place, seconds)
    await helm.remove()
