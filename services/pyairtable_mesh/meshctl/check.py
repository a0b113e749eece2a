"""``meshctl check``: whether this machine has what the platform needs, before anything runs."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import click

from pyairtable_mesh.meshctl import output
from pyairtable_mesh.meshctl.cluster import preflight
from pyairtable_mesh.meshctl.cluster.kubectl import Kubectl
from pyairtable_mesh.meshctl.cluster.place import Place, cluster_options
from pyairtable_mesh.meshctl.cluster.preflight import Wanted
from pyairtable_mesh.meshctl.environment import Environment
from pyairtable_mesh.meshctl.findings import Finding, report
from pyairtable_mesh.meshctl.machine import LocalMachine, Machine
from pyairtable_mesh.meshctl.problems import WRONG

OLDEST_PYTHON = (3, 11)
REQUIRED = ("pyairtable-mesh", "pyairtable-protos", "grpcio", "protobuf", "protovalidate")
LAPTOP = ("pyairtable-operator", "pyairtable-laptop")
PORTS = {
    18000: "control plane",
    50051: "permission, gRPC",
    50053: "permission, health",
    9464: "permission, metrics",
    50061: "user, gRPC",
    50063: "user, health",
    9465: "user, metrics",
    50071: "audit, gRPC",
    50073: "audit, health",
    9466: "audit, metrics",
}
"""What `make run` listens on, unless it is told --free-ports."""
OURS = ("pyairtable_operator", "pyairtable_mesh")


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that some of the work needs: how to ask its version, for what it is, where to get it."""

    command: tuple[str, ...]
    purpose: str
    source: str


TOOLS = (
    Tool(("git", "--version"), "working on the platform", "your package manager"),
    Tool(("uv", "--version"), "make run and make test", "pip install uv"),
    Tool(("make", "--version"), "make run and make test", "your package manager"),
    Tool(("go", "version"), "Go code generation, Go examples and their tests", "https://go.dev/dl"),
    Tool(
        ("grpcurl", "-version"), "calls without meshctl", "https://github.com/fullstorydev/grpcurl, or use meshctl call"
    ),
    Tool(("docker", "--version"), "images", "https://docs.docker.com/get-docker"),
    Tool(("kubectl", "version", "--client"), "a cluster", "https://kubernetes.io/docs/tasks/tools"),
    Tool(("helm", "version", "--short"), "a cluster", "https://helm.sh/docs/intro/install"),
)
"""None is needed to run services that are installed: their absence is a warning."""


@click.command()
@cluster_options
@output.output_option
@click.pass_obj
def check(environment: Environment, form: output.Form, place: Place | None) -> None:
    """Look whether this machine has what the platform needs.

    Python and packages must fit; ports must be free, or in use by the platform itself; other tools are optional, and it
    is said what each is for. With --cluster: whether the cluster and you have what an installation needs. Ends with 1
    when something that is needed is not there.
    """
    if place is None:
        findings = list(examine(LocalMachine(environment.run_program)))
    else:
        findings = asyncio.run(preflight.examine(Kubectl(environment.run_program, place.context), place, Wanted()))
    if not report(findings, form):
        click.get_current_context().exit(WRONG)


def examine(machine: Machine) -> Iterator[Finding]:
    """Every finding about a machine, in the order in which they matter."""
    yield _python(machine.python())
    for name in REQUIRED:
        version = machine.distribution(name)
        missing = Finding("fail", name, "not installed", f"pip install {name}, or in a checkout: uv sync")
        yield Finding("ok", name, version) if version else missing
    for name in LAPTOP:
        version = machine.distribution(name)
        missing = Finding("warn", name, "not installed; for running the platform here", "in a checkout: make run")
        yield Finding("ok", name, version) if version else missing
    for port, purpose in PORTS.items():
        yield _port(machine, port, purpose)
    for tool in TOOLS:
        yield _tool(tool, machine.program(tool.command))


def _python(version: str) -> Finding:
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers >= OLDEST_PYTHON:
        return Finding("ok", "Python", version)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Finding(
        "fail", "Python", f"{version} is too old", f"install Python {oldest} or newer: uv python install {oldest}"
    )


def _port(machine: Machine, port: int, purpose: str) -> Finding:
    subject = f"port {port}"
    if machine.port_is_free(port):
        return Finding("ok", subject, f"free ({purpose})")
    user = machine.port_user(port)
    if any(name in user for name in OURS):
        return Finding("ok", subject, f"the platform is running ({purpose}): {user}")
    steps = "stop what uses it" if user else f"find out who uses it: lsof -nP -iTCP:{port} -sTCP:LISTEN"
    text = f"in use by {user or 'a process that cannot be told'}; wanted for {purpose}"
    return Finding("fail", subject, text, f"{steps}, or run on other ports: --free-ports")


def _tool(tool: Tool, version: str | None) -> Finding:
    name = tool.command[0]
    if version is None:
        return Finding("warn", name, f"not found; for {tool.purpose}", f"if you want it: {tool.source}")
    if not version:
        return Finding("warn", name, f"does not tell its version; for {tool.purpose}", f"try: {' '.join(tool.command)}")
    return Finding("ok", name, version)
