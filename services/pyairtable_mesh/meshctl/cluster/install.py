"""``meshctl install`` and ``meshctl upgrade``: Helm, with a look before and a line for each step."""

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pyairtable_mesh.meshctl import output
from pyairtable_mesh.meshctl.cluster import changes, preflight, progress, releases, workloads
from pyairtable_mesh.meshctl.cluster.chart import Chart, Values, chart_options, resolved
from pyairtable_mesh.meshctl.cluster.kubectl import Kubectl
from pyairtable_mesh.meshctl.cluster.place import Place, place_options
from pyairtable_mesh.meshctl.environment import Environment
from pyairtable_mesh.meshctl.findings import Finding, Told
from pyairtable_mesh.meshctl.problems import WRONG, Problem

if TYPE_CHECKING:
    from pyairtable_mesh.meshctl.cluster.helm import Helm

KEEP_VALUES = "--reset-then-reuse-values"


@dataclass(frozen=True, slots=True)
class Change:
    """What was asked for: install or upgrade, of what, and how."""

    place: Place
    values: Values
    chart: str
    timeout: float
    wait: bool
    dry_run: bool
    upgrade: bool
    keep_values: bool = False
    create_namespace: bool = False


@click.command()
@chart_options
@click.option(
    "--create-namespace/--no-create-namespace", default=True, show_default=True, help="Make the namespace if need be."
)
@place_options
@output.output_option
@click.pass_obj
def install(environment: Environment, /, form: output.Form, create_namespace: bool, **options: Any) -> None:
    """Install the platform in a Kubernetes cluster, with Helm.

    Looks first whether the cluster is as it must be, and names it; then tells what becomes ready, and what does not and
    why. In another form than table, each step is an object in a line of its own. Ends with 1 when something is wrong.
    """
    _run(environment, form, _change(options, upgrade=False, create_namespace=create_namespace))


@click.command()
@chart_options
@click.option(
    "--reuse-values",
    "keep_values",
    is_flag=True,
    help="Keep what is set for the release, over the defaults of the chart; what is set here goes first.",
)
@place_options
@output.output_option
@click.pass_obj
def upgrade(environment: Environment, /, form: output.Form, keep_values: bool, **options: Any) -> None:
    """Upgrade a release in a Kubernetes cluster, with Helm.

    Says first which images, objects and values change, then does as install. With values given, those that were set
    before are forgotten, unless --reuse-values keeps them; without any, those of the last good revision are kept.
    """
    _run(environment, form, _change(options, upgrade=True, keep_values=keep_values))


def _change(options: dict[str, Any], **kind: Any) -> Change:
    values = Values(*(options.pop(name) for name in ("files", "pairs", "texts", "ha")))
    return Change(values=values, **options, **kind)


def _run(environment: Environment, form: output.Form, change: Change) -> None:
    told = Told(form)
    place = change.place
    try:
        asyncio.run(_carry_out(Kubectl(environment.run_program, place.context), change, told))
    except KeyboardInterrupt:
        step = f"meshctl status --cluster{place.options()} tells what there is now"
        told(Finding("warn", f"release {place.release}", "interrupted, and so was Helm", step))
        raise
    if told.failed:
        click.get_current_context().exit(WRONG)


async def _carry_out(kubectl: Kubectl, change: Change, told: Told) -> None:
    wanted = preflight.Wanted(change.create_namespace, release_there=change.upgrade)
    for finding in await preflight.examine(kubectl, change.place, wanted):
        told(finding)
    if told.failed:
        return
    async with AsyncExitStack() as stack:
        helm, _ = await releases.opened(change.place, change.timeout)
        chart = await resolved(change.chart, change.values, helm, stack)
        helm = helm.with_values((*chart.options, KEEP_VALUES) if change.keep_values else chart.options)
        read = await helm.chart(chart.reference, chart.version)
        told(Finding("ok", "chart", f"{read.get('name')} {read.get('version')} from {change.chart or chart.reference}"))
        before = await helm.release() if change.upgrade else None
        if change.dry_run or before is not None:
            planned = await _apply(helm, chart, change, dry_run=True)
            _tell_plan(before or {}, planned, told)
        if change.dry_run:
            told(Finding("ok", f"release {change.place.release}", "nothing was changed: --dry-run"))
            return
        await _apply_and_tell(kubectl, helm, chart, change, told)


async def _apply(helm: "Helm", chart: Chart, change: Change, *, dry_run: bool = False) -> dict[str, Any]:
    return await helm.change(
        chart.reference,
        chart.version,
        wait=change.wait and not dry_run,
        dry_run=dry_run,
        create_namespace=change.create_namespace,
        timeout=f"{change.timeout:.0f}s",
    )


def _tell_plan(before: dict[str, Any], planned: dict[str, Any], told: Told) -> None:
    lines = changes.summary(before, planned)
    for subject, words in lines:
        told(Finding("ok", subject, words))
    if not lines:
        told(Finding("ok", "changes", "none"))


async def _apply_and_tell(kubectl: Kubectl, helm: "Helm", chart: Chart, change: Change, told: Told) -> None:
    place = change.place

    def fetch() -> list[workloads.Workload]:
        return workloads.fetch(kubectl, place)

    before = await asyncio.to_thread(fetch) if change.upgrade else []
    try:
        work = _apply(helm, chart, change)
        made = await progress.follow(work, fetch, progress.Progress(told, before)) if change.wait else await work
    except Problem as problem:
        with suppress(Problem):  # when the cluster is away, Helm's words say so
            for finding in progress.verdict(await asyncio.to_thread(fetch), place.namespace):
                told(finding)
        told(Finding("fail", f"release {place.release}", problem.told(), await _way_back(helm, change)))
        return
    verb = "upgraded" if change.upgrade else "installed"
    waited = "" if change.wait else ", not waited for"
    text = f"{verb}: revision {made['version']} in {place.namespace}{waited}"
    told(Finding("ok", f"release {place.release}", text, f"meshctl status --cluster{place.options()}"))
    if told.form == "table":
        click.echo(made["info"].get("notes", "").rstrip())


async def _way_back(helm: "Helm", change: Change) -> str:
    place = change.place
    correct = f"correct it and meshctl upgrade --set ...{place.options()}"
    if not change.upgrade:
        return f"{correct}, or remove it: meshctl uninstall{place.options()}"
    good: list[int] = []
    with suppress(Problem):
        rows = await helm.history_of_release()
        good = [row["revision"] for row in rows if row["status"] in {"deployed", "superseded"}]
    if not good:
        return correct
    return f"helm rollback {place.release} {good[-1]} --namespace {place.namespace} --wait takes it back; or {correct}"
