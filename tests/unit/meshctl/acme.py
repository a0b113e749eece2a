"""A service of another team, of which no Python code is installed: reflection and one method."""

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import aio as aio_reflection

SERVICE = "acme.invoices.v1.InvoiceService"

_FIELD = descriptor_pb2.FieldDescriptorProto


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(
        name="acme/invoices/v1/invoices.proto",
        package="acme.invoices.v1",
        syntax="proto3",
        dependency=["google/protobuf/timestamp.proto"],
    )
    optional = _FIELD.LABEL_OPTIONAL
    for name in ("GetInvoiceRequest", "Invoice"):
        message = file.message_type.add(name=name)
        message.field.add(name="name", number=1, type=_FIELD.TYPE_STRING, label=optional)
    invoice = file.message_type[1]
    invoice.field.add(
        name="due_time", number=2, type=_FIELD.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp", label=optional
    )
    service = file.service.add(name="InvoiceService")
    service.method.add(
        name="GetInvoice", input_type=".acme.invoices.v1.GetInvoiceRequest", output_type=".acme.invoices.v1.Invoice"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def add_to(server: grpc.aio.Server) -> None:
    """Serve GetInvoice, which answers with an invoice of the name that was asked for."""
    pool = _pool()
    request_class = message_factory.GetMessageClass(pool.FindMessageTypeByName("acme.invoices.v1.GetInvoiceRequest"))
    invoice_class = message_factory.GetMessageClass(pool.FindMessageTypeByName("acme.invoices.v1.Invoice"))

    async def get_invoice(request: Any, context: Any) -> Any:
        return invoice_class(name=request.name, due_time={"seconds": 86_400})

    method = grpc.unary_unary_rpc_method_handler(
        get_invoice,
        request_deserializer=request_class.FromString,
        response_serializer=invoice_class.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"GetInvoice": method}),))
    names = [SERVICE, "grpc.reflection.v1alpha.ServerReflection"]
    add_reflection: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
    add_reflection(aio_reflection.ReflectionServicer(names, pool=pool), server)
