"""``meshctl uninstall``: removes a release with Helm, and names what stays."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

import click

from pyairtable_mesh.meshctl import output
from pyairtable_mesh.meshctl.cluster import changes, preflight, releases
from pyairtable_mesh.meshctl.cluster.kubectl import Kubectl
from pyairtable_mesh.meshctl.cluster.place import Place, place_options, timeout_option
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
@timeout_option
@place_options
@output.output_option
@click.pass_obj
def uninstall(environment: Environment, /, form: output.Form, **options: Any) -> None:
    """Remove a release from a Kubernetes cluster, with Helm.

    Names the cluster and what stays, such as volumes with data, and asks before it removes anything.
    """
    told = Told(form)
    asyncio.run(_carry_out(environment, told, **options))
    if told.failed:
        click.get_current_context().exit(WRONG)


async def _carry_out(environment: Environment, told: Told, place: Place, yes: bool, timeout: float) -> None:  # noqa: ASYNC109 - Helm's
    kubectl = Kubectl(environment.run_program, place.context)
    for finding in await asyncio.to_thread(preflight.reached, kubectl):
        told(finding)
    if told.failed:
        return
    helm, version = await releases.opened(place, timeout)
    told(Finding("ok", "helm", version))
    release = await helm.release()
    if release is None:
        step = "helm list --all-namespaces tells where releases are"
        told(Finding("fail", "release", f"{place.release} is not in {place.namespace}", step))
        return
    words = f"{place.release} in {place.namespace}, revision {release['version']}, {release['info']['status']}"
    told(Finding("ok", "release", words))
    for rest in await asyncio.to_thread(rests, kubectl, place, release.get("manifest", "")):
        told(Finding("warn", "stays", ", ".join(rest.names), rest.step))
    _confirm(place, yes)
    await helm.remove()
    told(Finding("ok", f"release {place.release}", f"is gone from {place.namespace}"))


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
    if not interactive():
        raise Problem("Nothing is removed without a yes.", "meshctl uninstall --yes" + place.options())
    if not click.confirm(f"Remove release {place.release} from {place.namespace}?", err=True):
        raise Problem("Nothing was removed.")


def interactive() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()
