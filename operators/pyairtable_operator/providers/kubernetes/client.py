"""What the provider does at the API server besides watching, with `kubernetes.aio`: a Lease, Events, a question."""

import contextlib
import datetime
import hashlib
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus

import aiohttp
from kubernetes.aio import client, config

from pyairtable_operator import model
from pyairtable_operator.providers.kubernetes.lease import Lease

_TIMEOUT_SECONDS = 4.0
_CONTROLLER = "mesh.pyairtable.io/operator"
_MAX_NOTE_CHARS = 1_000
_LONG_AGO = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class ApiError(OSError):
    """The API server refuses, or is not there; the message says which, without its words."""


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[client.ApiClient]:
    """Connect as the pod's service account, or as KUBECONFIG says where there is none. Raises ApiError."""
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        try:
            await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError) as error:
            raise ApiError("there is neither a service account nor a kubeconfig to connect with") from error
    async with client.ApiClient(configuration) as api:
        yield api


async def serves(api: client.ApiClient, group: str, version: str, plural: str) -> bool:
    """Whether the API server has a kind of custom resources. Raises ApiError."""
    with translated():
        try:
            found = await client.CustomObjectsApi(api).get_api_resources(
                group, version, _request_timeout=_TIMEOUT_SECONDS
            )
        except client.ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
    return any(resource.name == plural for resource in found.resources)


class LeaseStore:
    """A Lease object in the cluster."""

    def __init__(self, api: client.ApiClient, namespace: str, name: str) -> None:
        self._leases = client.CoordinationV1Api(api)
        self._namespace = namespace
        self._name = name

    async def read(self) -> Lease | None:
        """Return the Lease, None when there is none. Raises ApiError."""
        with translated():
            try:
                found = await self._leases.read_namespaced_lease(
                    self._name, self._namespace, _request_timeout=_TIMEOUT_SECONDS
                )
            except client.ApiException as error:
                if error.status == HTTPStatus.NOT_FOUND:
                    return None
                raise
        return _lease(found)

    async def write(self, lease: Lease) -> Lease | None:
        """Replace or create the Lease; None when another was quicker. Raises ApiError."""
        metadata = client.V1ObjectMeta(name=self._name, resource_version=lease.version or None)
        spec = client.V1LeaseSpec(
            holder_identity=lease.holder,
            lease_duration_seconds=lease.duration,
            acquire_time=lease.acquired,
            renew_time=lease.renewed,
            lease_transitions=lease.transitions,
        )
        body = client.V1Lease(api_version="coordination.k8s.io/v1", kind="Lease", metadata=metadata, spec=spec)
        with translated():
            try:
                if lease.version:
                    written = await self._leases.replace_namespaced_lease(
                        self._name, self._namespace, body, _request_timeout=_TIMEOUT_SECONDS
                    )
                else:
                    written = await self._leases.create_namespaced_lease(
                        self._namespace, body, _request_timeout=_TIMEOUT_SECONDS
                    )
            except client.ApiException as error:
                if error.status == HTTPStatus.CONFLICT:
                    return None
                raise
        return _lease(written)


class ProblemEvents:
    """Tells the owner of a Service why not all of it is in the mesh: `kubectl describe service` shows it.

    Nothing is written to the Service itself. An Event is named by what it says, so it is there once, whoever writes it.
    """

    def __init__(self, api: client.ApiClient, identity: str) -> None:
        self._services = client.CoreV1Api(api)
        self._events = client.EventsV1Api(api)
        self._identity = identity
        self._told: frozenset[model.Problem] = frozenset()

    async def tell(self, problems: tuple[model.Problem, ...]) -> None:
        """Write what was not yet told; `where` of each is namespace and name of a Service. Raises ApiError."""
        for problem in problems:
            if problem not in self._told:
                await self._write(problem)
                self._told |= {problem}
        self._told &= frozenset(problems)

    async def _write(self, problem: model.Problem) -> None:
        namespace, _, name = problem.where.partition("/")
        digest = hashlib.blake2b(problem.reason.encode(), digest_size=8).hexdigest()
        with translated():
            try:
                service = await self._services.read_namespaced_service(
                    name, namespace, _request_timeout=_TIMEOUT_SECONDS
                )
                event = client.EventsV1Event(
                    metadata=client.V1ObjectMeta(name=f"{name}.{digest}", namespace=namespace),
                    event_time=datetime.datetime.now(datetime.UTC),
                    type="Warning",
                    reason="LeftOutOfMesh",
                    action="Register",
                    note=problem.reason[:_MAX_NOTE_CHARS],
                    reporting_controller=_CONTROLLER,
                    reporting_instance=self._identity,
                    regarding=_reference(service),
                )
                await self._events.create_namespaced_event(namespace, event, _request_timeout=_TIMEOUT_SECONDS)
            except client.ApiException as error:
                # It was told before, or the Service or its namespace is going away.
                if error.status not in {HTTPStatus.CONFLICT, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
                    raise


def _reference(service: client.V1Service) -> client.V1ObjectReference:
    metadata = service.metadata or client.V1ObjectMeta()
    return client.V1ObjectReference(
        api_version="v1", kind="Service", namespace=metadata.namespace, name=metadata.name, uid=metadata.uid
    )


def _lease(found: client.V1Lease) -> Lease:
    spec = found.spec or client.V1LeaseSpec()
    version = found.metadata.resource_version if found.metadata else None
    return Lease(
        holder=spec.holder_identity or "",
        duration=spec.lease_duration_seconds or 0,
        acquired=spec.acquire_time or _LONG_AGO,
        renewed=spec.renew_time or _LONG_AGO,
        transitions=spec.lease_transitions or 0,
        version=version or "",
    )


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what the client raises into ApiError."""
    try:
        yield
    except client.ApiException as error:
        raise ApiError(f"the API server answers {error.status}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ApiError("the API server can't be reached") from error
