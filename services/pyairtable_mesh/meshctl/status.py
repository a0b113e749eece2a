"""``meshctl status``: the mesh at a glance, as the control plane knows it, or a release in a cluster."""

import asyncio
from contextlib import aclosing
from typing import Any

import click

from pyairtable_mesh.meshctl import control_plane, mesh, output
from pyairtable_mesh.meshctl.cluster import releases, workloads
from pyairtable_mesh.meshctl.cluster.kubectl import Kubectl
from pyairtable_mesh.meshctl.cluster.place import CONTROL_PLANE, Place, cluster_options
from pyairtable_mesh.meshctl.cluster.workloads import Workload
from pyairtable_mesh.meshctl.environment import Environment, control_plane_option
from pyairtable_mesh.meshctl.output import Form, Table
from pyairtable_mesh.meshctl.problems import Problem

View = tuple[str, mesh.State] | Problem
"""The address and the state of a control plane, or why there are none."""


@click.command()
@click.option("-w", "--watch", is_flag=True, help="Show it again after each change, until Ctrl-C.")
@cluster_options
@output.output_option
@control_plane_option
@click.pass_obj
def status(environment: Environment, watch: bool, form: Form, plane: str, place: Place | None) -> None:
    """Show the mesh at a glance: each service with its endpoints, and whether clients take what is served.

    With --cluster: the release that is installed there, its workloads, and the same as its control plane tells it.
    """
    if place is not None:
        if watch:
            raise click.UsageError("--watch is for a control plane: leave out --cluster, and forward its port.")
        asyncio.run(_of_release(environment, place, form))
    else:
        asyncio.run(_watch(environment, plane, form) if watch else _status(environment, plane, form))


async def _status(environment: Environment, address: str, form: Form) -> None:
    state = await _state(environment, address)
    output.emit(form, mesh.status_data(address, state), lambda: mesh.status_table(address, state))


async def _state(environment: Environment, address: str) -> mesh.State:
    async with control_plane.opened(environment.connect, address, environment.control_plane_token) as plane:
        return await plane.inventory(), await plane.clients()


async def _watch(environment: Environment, address: str, form: Form) -> None:
    async with (
        control_plane.opened(environment.connect, address, environment.control_plane_token) as plane,
        aclosing(plane.watch()) as states,
    ):
        async for state in states:
            if form == "table":
                output.clear()
                output.print_table(mesh.status_table(address, state))
            else:
                output.print_data(form, mesh.status_data(address, state), lines=True)


async def _of_release(environment: Environment, place: Place, form: Form) -> None:
    kubectl = Kubectl(environment.run_program, place.context)
    helm, _ = await releases.opened(place)
    release = await helm.release()
    if release is None:
        step = f"meshctl install{place.options()}, or helm list --all-namespaces tells where releases are"
        raise Problem(f"There is no release {place.release} in {place.namespace}.", step)
    found = await asyncio.to_thread(workloads.fetch, kubectl, place)
    view = await _view(environment, kubectl, place)
    chart = await helm.chart_of_release()
    head = release_data(place, release, chart)
    if form != "table":
        output.print_data(form, cluster_data(head, found, view))
        return
    output.print_table(workloads_table(head, found))
    click.echo()
    if isinstance(view, Problem):
        output.print_line(f"The control plane does not tell what it knows: {view.message}")
        output.print_line("next: meshctl doctor --cluster" + place.options())
    else:
        output.print_table(mesh.status_table(view[0], view[1]))


async def _view(environment: Environment, kubectl: Kubectl, place: Place) -> View:
    try:
        async with kubectl.forwarded(place.namespace, *CONTROL_PLANE) as address:
            return f"{CONTROL_PLANE[0]}:{CONTROL_PLANE[1]}", await _state(environment, address)
    except Problem as problem:
        return problem


def release_data(place: Place, release: dict[str, Any], chart: dict[str, Any]) -> dict[str, Any]:
    """What Helm tells of a release, for a program."""
    return {
        "name": place.release,
        "namespace": place.namespace,
        "revision": release["version"],
        "status": release["info"]["status"],
        "chart": f"{chart.get('name')}-{chart.get('version')}",
        "appVersion": str(chart.get("appVersion", "")),
        "updated": release["info"].get("last_deployed", ""),
    }


def cluster_data(head: dict[str, Any], found: list[Workload], view: View) -> dict[str, Any]:
    """The whole for a program; `controlPlane` is null where `controlPlaneProblem` says why."""
    return {
        "release": head,
        "workloads": [
            {
                "kind": each.kind,
                "name": each.name,
                "ready": each.ready,
                "desired": each.desired,
                "state": state(each),
                "images": list(each.images),
                "troubles": [str(trouble) for trouble in each.troubles],
            }
            for each in found
        ],
        "controlPlane": None if isinstance(view, Problem) else mesh.status_data(view[0], view[1]),
        "controlPlaneProblem": view.message if isinstance(view, Problem) else "",
    }


def workloads_table(head: dict[str, Any], found: list[Workload]) -> Table:
    """A row for each workload, with what Helm tells below."""
    rows = [
        (
            each.title,
            state(each),
            f"{each.ready}/{each.desired}",
            output.joined(each.images, 1),
            output.joined(each.troubles, 1),
        )
        for each in found
    ]
    note = (
        f"Release {head['name']} in {head['namespace']}: revision {head['revision']}, {head['status']},"
        f" chart {head['chart']}, application {head['appVersion']}, {head['updated'][:19].replace('T', ' ')}."
    )
    return Table(("WORKLOAD", "STATE", "READY", "IMAGE", "PROBLEM"), rows, [note])


def state(workload: Workload) -> str:
    """How a workload is, in a word."""
    if workload.settled:
        return "ready"
    return "problem" if any(each.reason for each in workload.troubles) else "behind"
