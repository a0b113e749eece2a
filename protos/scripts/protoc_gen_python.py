"""A protoc plugin that makes Python messages and gRPC stubs with the protoc inside grpcio-tools.

buf can only call a plugin or a `protoc` binary, and grpcio-tools is neither: it has both generators
built in. The request's descriptors go to it as a descriptor set. buf names `json_name` in each field
even where it says what it would be anyway, and protoc does not; what is left out here makes both ways
give the same bytes.
"""

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    Edition,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc  # type: ignore[import-untyped]


def _fields(file: FileDescriptorProto) -> Iterable[FieldDescriptorProto]:
    yield from file.extension
    messages: list[DescriptorProto] = list(file.message_type)
    while messages:
        message = messages.pop()
        messages.extend(message.nested_type)
        yield from message.field
        yield from message.extension


def _default_json_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _run(descriptors: Path, option: str, output: Path, files: list[str]) -> None:
    if files and protoc.main(["protoc", f"--descriptor_set_in={descriptors}", f"--{option}={output}", *files]) != 0:
        sys.exit(f"protoc --{option} failed")


def main() -> None:
    """Read a CodeGeneratorRequest from standard input and answer it on standard output."""
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    for file in request.proto_file:
        for field in _fields(file):
            if field.json_name == _default_json_name(field.name):
                field.ClearField("json_name")

    wanted = set(request.file_to_generate)
    with_services = [file.name for file in request.proto_file if file.name in wanted and file.service]
    response = CodeGeneratorResponse(
        supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
        | CodeGeneratorResponse.FEATURE_SUPPORTS_EDITIONS,
        minimum_edition=Edition.EDITION_PROTO2,
        maximum_edition=Edition.EDITION_2023,
    )
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        output.mkdir()
        descriptors = Path(folder, "descriptors.binpb")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        _run(descriptors, "python_out", output, sorted(wanted))
        _run(descriptors, "grpc_python_out", output, with_services)
        for path in sorted(output.rglob("*.py")):
            response.file.add(name=path.relative_to(output).as_posix(), content=path.read_text())
    sys.stdout.buffer.write(response.SerializeToString())


if __name__ == "__main__":
    main()
