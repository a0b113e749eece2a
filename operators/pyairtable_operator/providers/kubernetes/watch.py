"""Follows a cluster with kopf, and only reads: indexes of some kinds of objects, and the mesh that they make.

kopf lives in a thread with a loop of its own. In the control plane's loop it would take over the process's signals, and
at its end cancel every task there that it has not made, the clients' streams among them.

kopf watches on after a lost connection, and lists anew where the API server answers 410. It does not notice what was
deleted between: its indexes keep that forever. So a second listing ends a watch, and the next one begins with nothing;
the mesh stays as it was until the new listing is complete.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import kopf
from kubernetes.aio import client

from pyairtable_operator import model
from pyairtable_operator.providers.kubernetes import discovery, policies

_KINDS = {
    "namespaces": ("", "v1", "namespaces"),
    "services": ("", "v1", "services"),
    "slices": ("discovery.k8s.io", "v1", "endpointslices"),
}
_POLICIES = {"policies": (policies.GROUP, policies.VERSION, policies.PLURAL)}
_CALM_SECONDS = 0.005
_CONNECT_SECONDS = 5.0
# After the last of them a request has failed, and the watch begins with the first again.
_BACKOFF_SECONDS = (0.25, 0.5, 1.0, 2.0)

# kopf tells of each event, each failed attempt and each signal that it does not get; what it gives up for is raised.
_LOG_LEVELS = {"kopf": logging.CRITICAL, "kopf.objects": logging.ERROR}

_Index = Mapping[Any, Iterable[Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """What is followed: namespaces with a label (``key=value``) and `home`; TrafficPolicy objects where they exist."""

    selector: str
    home: str
    domain: str
    with_policies: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """The mesh, and what became of each TrafficPolicy."""

    mesh: model.Mesh
    verdicts: tuple[policies.Verdict, ...] = ()


class Watch:
    """One watch.

    `deliver` gets what is found when the first listing is complete and after each change, in the watch's thread.
    """

    def __init__(self, access: client.Configuration, scope: Scope, deliver: Callable[[Found], None]) -> None:
        self._access = access
        self._scope = scope
        self._kinds = _KINDS | (_POLICIES if scope.with_policies else {})
        self._assembler = discovery.Assembler(scope.domain)
        self._deliver = deliver
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._indexes: Mapping[str, _Index] = {}

    def run(self) -> None:
        """Watch until stopped, or until a second listing has begun. Raises what kopf gives up for."""
        for name, level in _LOG_LEVELS.items():
            logging.getLogger(name).setLevel(level)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._run())

    def stop(self) -> None:
        """End the watch, from another thread."""
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _run(self) -> None:
        work = [
            asyncio.create_task(self._stop.wait()),
            asyncio.create_task(self._publish()),
            asyncio.create_task(
                kopf.operator(registry=self._registry(), settings=_settings(), clusterwide=True, standalone=True)
            ),
        ]
        ended, others = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        for task in ended:
            task.result()

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        readers = {"namespaces": self._namespace, "services": _service, "slices": _slice, "policies": _policy}
        for name, kind in self._kinds.items():
            kopf.index(*kind, id=name, registry=registry)(readers[name])
            kopf.on.event(*kind, id=f"{name}-changed", registry=registry)(self._event)
        return registry

    async def _login(self, **_: Any) -> kopf.ConnectionInfo:
        """Be who the other client is; kopf asks again when its token is no longer taken."""
        access = self._access
        header = await access.get_api_key_with_prefix("BearerToken") or " "
        scheme, token = header.split(" ", 1)
        return kopf.ConnectionInfo(
            server=access.host,
            ca_path=access.ssl_ca_cert,
            insecure=not access.verify_ssl,
            certificate_path=access.cert_file,
            private_key_path=access.key_file,
            scheme=scheme or None,
            token=token or None,
            proxy_url=access.proxy,
        )

    async def _namespace(self, body: kopf.Body, **_: Any) -> Mapping[str, bool]:
        taken = discovery.selects(self._scope.selector, self._scope.home, body)
        return {body["metadata"]["name"]: True} if taken else {}

    async def _event(self, type: str | None, memo: Any, **others: Any) -> None:  # noqa: A002 - kopf's name
        """Take notice of a change, which the indexes have already. kopf calls this after the first whole listing.

        The type is None for what is found by listing.
        """
        if type is None and memo.get("known"):
            self._stop.set()
            return
        memo["known"] = True
        self._indexes = {name: others[name] for name in self._kinds}
        self._changed.set()

    async def _publish(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._deliver(self._found())
            await asyncio.sleep(_CALM_SECONDS)

    def _found(self) -> Found:
        namespaces = self._indexes["namespaces"]
        # An object that was deleted and made again may be there twice for a moment: the newest is the last.
        newest = ([*found][-1] for found in self._indexes["services"].values())
        services = [service for service in newest if service.key[0] in namespaces]
        slices = {key: tuple(found) for key, found in self._indexes["slices"].items()}
        chosen = {
            # As above; here several may stand side by side.
            key: tuple({found.name: found for found in several}.values())
            for key, several in self._indexes.get("policies", {}).items()
            if key[0] in namespaces
        }
        mesh = self._assembler.mesh(services, slices, chosen)
        return Found(mesh, policies.verdicts(chosen, self._assembler.names()))


async def _service(body: kopf.Body, **_: Any) -> Mapping[discovery.Key, discovery.GrpcService]:
    found = discovery.grpc_service(body)
    return {} if found is None else {found.key: found}


async def _slice(body: kopf.Body, **_: Any) -> Mapping[discovery.Key, discovery.Slice]:
    found = discovery.endpoint_slice(body)
    return {} if found is None else {found.key: found}


async def _policy(body: kopf.Body, **_: Any) -> Mapping[policies.Key, policies.TrafficPolicy]:
    found = policies.traffic_policy(body)
    return {found.target: found}


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.process.ultimate_exiting_timeout = None  # it would kill the process
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.connect_timeout = _CONNECT_SECONDS
    settings.networking.error_backoffs = _BACKOFF_SECONDS
    return settings
