"""Where a release is: context, namespace and name, and the options that say so."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click
from click.core import ParameterSource

CONTROL_PLANE = ("service/pyairtable-operator", 18_000)
LABELS = "app.kubernetes.io/part-of=pyairtable-mesh"


@dataclass(frozen=True, slots=True)
class Place:
    """A release in a namespace of a cluster; an empty context is the kubeconfig's current one."""

    namespace: str
    release: str
    context: str = ""

    @property
    def selector(self) -> str:
        """The label selector of what the release has made."""
        return f"app.kubernetes.io/instance={self.release},{LABELS}"

    def options(self) -> str:
        """The options that name this place to meshctl, as far as they are not the defaults."""
        words = [f"--context {self.context}"] if self.context else []
        words += [f"--namespace {self.namespace}"] if self.namespace != NAMESPACE else []
        words += [f"--release {self.release}"] if self.release != RELEASE else []
        return "".join(f" {each}" for each in words)


NAMESPACE, RELEASE = "pyairtable", "mesh"


timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="For all of it.",
)


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a place; it gets them as `place`."""

    @click.option(
        "-n", "--namespace", default=NAMESPACE, show_default=True, metavar="NAME", help="Namespace of the release."
    )
    @click.option("--release", default=RELEASE, show_default=True, metavar="NAME", help="Name of the release.")
    @click.option(
        "--context", default="", metavar="NAME", help="Context of the kubeconfig, instead of its current one."
    )
    @wraps(command)
    def wrapped(*args: Any, namespace: str, release: str, context: str, **kwargs: Any) -> Any:
        return command(*args, place=Place(namespace, release, context), **kwargs)

    return wrapped


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--cluster`` and the options of a place; it gets `place`, None when none of them is given."""

    @click.option("--cluster", is_flag=True, help="Look at a release in a Kubernetes cluster; so do the next three.")
    @place_options
    @wraps(command)
    def wrapped(*args: Any, cluster: bool, place: Place, **kwargs: Any) -> Any:
        source = click.get_current_context().get_parameter_source
        named = any(source(name) is ParameterSource.COMMANDLINE for name in ("namespace", "release", "context"))
        return command(*args, place=place if cluster or named else None, **kwargs)

    return wrapped
