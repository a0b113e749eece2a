"""Puts servicers behind the interceptor stack, each method once, and holds them against the access table."""

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from pyairtable_mesh.runtime.access import AccessTable, Row, values
from pyairtable_mesh.runtime.errors import Unimplemented
from pyairtable_mesh.runtime.interceptors.call import Call, Handlers, Interceptor, Method, behaviour, handler, wrap
from pyairtable_mesh.runtime.service import Registration


class _Recorder:
    """Stands in for a server, to learn from generated code which service a servicer implements."""

    def __init__(self) -> None:
        self.service = ""

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        self.service = next(iter(handlers)).service_name()

    def add_registered_method_handlers(self, service: str, _handlers: object) -> None:
        self.service = service


def describe(registration: Registration) -> ServiceDescriptor:
    """The descriptor of the gRPC service that a servicer implements."""
    add, servicer = registration
    recorder = _Recorder()
    add(servicer, recorder)
    return descriptor_pool.Default().FindServiceByName(recorder.service)


def implemented(servicer: object, method: str) -> bool:
    """Whether the servicer's class overrides the generated method."""
    owner = next(kind for kind in type(servicer).__mro__ if method in vars(kind))
    return not owner.__module__.endswith("_pb2_grpc")


def methods(registration: Registration, table: AccessTable) -> list[Method]:
    """The methods of a servicer with their rows; ValueError where table and servicer do not fit each other."""
    _, servicer = registration
    service = describe(registration)
    done = {method.name for method in service.methods if implemented(servicer, method.name)}
    if missing := done - table.keys():
        raise ValueError(f"no row in the access table of {service.full_name} for {', '.join(sorted(missing))}")
    if idle := table.keys() - done:
        raise ValueError(f"{service.full_name} implements no {', '.join(sorted(idle))}, but its access table has rows")
    return [_method(service, method, table.get(method.name)) for method in service.methods]


def _method(service: ServiceDescriptor, method: MethodDescriptor, row: Row | None) -> Method:
    request_class = message_factory.GetMessageClass(method.input_type)
    for way in row.ways() if row is not None else ():
        if way.kind in {"on", "own"}:
            values(request_class(), way.field)  # AttributeError now, not with the first call
    return Method(
        path=f"/{service.full_name}/{method.name}",
        descriptor=method,
        request_class=request_class,
        response_class=message_factory.GetMessageClass(method.output_type),
        request_streaming=method.client_streaming,
        response_streaming=method.server_streaming,
        row=row,
    )


def register(
    server: grpc.aio.Server,
    registrations: Iterable[Registration],
    access: Mapping[str, AccessTable],
    interceptors: tuple[Interceptor, ...],
) -> list[str]:
    """Add every servicer to the server; the full names of their services."""
    names = []
    for registration in registrations:
        name = describe(registration).full_name
        handlers = {}
        for method in methods(registration, access.get(name, {})):
            function = getattr(registration[1], method.descriptor.name)
            innermost = _refuse if method.row is None else behaviour(method, function)
            handlers[method.path] = handler(method, wrap(method, interceptors, innermost))
        server.add_generic_rpc_handlers((Handlers(name, handlers),))
        names.append(name)
    return names


async def _refuse(call: Call) -> None:
    raise Unimplemented(
        f"{call.method.name} is in the contract, and not yet in this release", metadata={"method": call.method.name}
    )
