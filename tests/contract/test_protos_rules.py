"""The rules for every proto that buf has no lint for, held over the checked-in descriptor set."""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import protovalidate
import pytest
from buf.validate import validate_pb2
from google.api import annotations_pb2, field_behavior_pb2, resource_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from pyairtable.common.v1 import common_pb2, rules_pb2

DESCRIPTORS = Path(__file__).parents[2] / "protos" / "generated" / "descriptors.binpb"
ID_CHARACTERS = "[0-9a-hjkmnp-tv-z]{26}"
SET_BY_SERVICE = {field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER}


@cache
def files() -> list[FileDescriptorProto]:
    everything = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    return [file for file in everything.file if file.package.startswith("pyairtable.")]


def walk(prefix: str, messages: list[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
    for message in messages:
        name = f"{prefix}.{message.name}"
        yield name, message
        yield from walk(name, list(message.nested_type))


@cache
def messages() -> dict[str, DescriptorProto]:
    return {name: message for file in files() for name, message in walk(f".{file.package}", list(file.message_type))}


def methods() -> Iterator[tuple[str, MethodDescriptorProto, str]]:
    """Each RPC: its full name, its descriptor, the comment before it."""
    for file in files():
        comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        for i, service in enumerate(file.service):
            for j, method in enumerate(service.method):
                yield f"{file.package}.{service.name}/{method.name}", method, comments.get((6, i, 2, j), "")


def behaviours(field: FieldDescriptorProto) -> set[int]:
    return set(field.options.Extensions[field_behavior_pb2.field_behavior])


def input_fields() -> Iterator[tuple[str, FieldDescriptorProto]]:
    """Every field that a caller can set, by the full name of its message and its own."""
    seen: set[str] = set()
    pending = [method.input_type for _, method, _ in methods()]
    while pending:
        name = pending.pop()
        if name in seen or name not in messages():
            continue
        seen.add(name)
        if messages()[name].options.map_entry:
            continue
        for field in messages()[name].field:
            if behaviours(field) & SET_BY_SERVICE:
                continue
            yield f"{name}.{field.name}", field
            if field.type == FieldDescriptorProto.TYPE_MESSAGE:
                pending.append(field.type_name)


def has_rule(field: FieldDescriptorProto) -> bool:
    return field.options.HasExtension(validate_pb2.field)


def test_every_rpc_says_what_it_needs() -> None:
    silent = [
        f"{name}: {word}"
        for name, _, comment in methods()
        for word in ("permission:", "errors:", "retry")
        if word not in comment.lower()
    ]
    assert not silent


def test_every_rpc_says_whether_a_retry_is_safe() -> None:
    assert not [name for name, method, _ in methods() if not method.options.HasField("idempotency_level")]


def test_http_paths_are_unambiguous() -> None:
    seen: dict[tuple[str, str], str] = {}
    for name, method, _ in methods():
        rule = method.options.Extensions[annotations_pb2.http]
        for binding in [rule, *rule.additional_bindings]:
            verb = binding.WhichOneof("pattern")
            if verb is None:
                continue
            path = re.sub(r"\{[^}=]+=([^}]+)\}|\{[^}]+\}", lambda match: match[1] or "*", getattr(binding, verb))
            assert seen.setdefault((verb, path), name) == name


def test_every_resource_leaves_numbers_for_forks() -> None:
    resources = {
        name: message for name, message in messages().items() if message.options.HasExtension(resource_pb2.resource)
    }
    assert resources
    reserved = {name: [(r.start, r.end) for r in message.reserved_range] for name, message in resources.items()}
    assert not [name for name, ranges in reserved.items() if (100, 200) not in ranges]


def test_field_numbers_are_sequential() -> None:
    for name, message in messages().items():
        removed = {n for r in message.reserved_range if r.start < 100 for n in range(r.start, r.end)}
        numbers = {field.number for field in message.field} | removed
        assert numbers == set(range(1, len(numbers) + 1)), name


def test_every_string_that_a_caller_sends_has_a_rule() -> None:
    texts = {FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_BYTES}
    assert not [name for name, field in input_fields() if field.type in texts and not has_rule(field)]


def test_every_rule_can_be_evaluated() -> None:
    for file in files():
        importlib.import_module(file.name.replace("/", ".").removesuffix(".proto") + "_pb2")
    for name, message in messages().items():
        if not message.options.map_entry:
            descriptor = descriptor_pool.Default().FindMessageTypeByName(name.removeprefix("."))
            protovalidate.collect_violations(message_factory.GetMessageClass(descriptor)())


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("", True),
        ("tenants/ten" + "0" * 26, True),
        ("tenants/ten" + "z" * 26, True),
        ("tenants/ten" + "0" * 25, False),
        ("tenants/ten" + "0" * 27, False),
        ("tenants/ten" + "l" * 26, False),
        ("tenants/ten" + "A" * 26, False),
        ("tenants/usr" + "0" * 26, False),
        ("xtenants/ten" + "0" * 25, False),
        ("tenants/ten" + "0" * 26 + "\n", False),
    ],
)
def test_id_after(value: str, accepted: bool) -> None:
    violations = protovalidate.collect_violations(common_pb2.RequestMetadata(tenant=value))
    assert [violation.proto.rule_id for violation in violations] == ([] if accepted else ["string.id_after"])


def test_every_list_that_a_caller_sends_is_bounded() -> None:
    unbounded = [
        name
        for name, field in input_fields()
        if field.label == FieldDescriptorProto.LABEL_REPEATED
        and not field.options.Extensions[validate_pb2.field].repeated.max_items
        and not field.options.Extensions[validate_pb2.field].map.max_pairs
    ]
    assert not unbounded


def test_every_field_of_a_request_says_how_it_behaves() -> None:
    requests = {method.input_type for _, method, _ in methods()}
    assert not [
        f"{name}.{field.name}"
        for name in requests & messages().keys()
        for field in messages()[name].field
        if not behaviours(field) and not field.HasField("oneof_index")
    ]


def test_ids_look_alike_everywhere() -> None:
    expression = rules_pb2.DESCRIPTOR.extensions_by_name["id_after"].GetOptions().Extensions[validate_pb2.predefined]
    assert ID_CHARACTERS in expression.cel[0].expression
    for name, field in input_fields():
        rules = str(field.options.Extensions[validate_pb2.field])
        assert rules.count("{26}") == rules.count(ID_CHARACTERS), name


def reachable(name: str, path: str = "", seen: tuple[str, ...] = ()) -> Iterator[tuple[str, FieldDescriptorProto]]:
    """Every field under a message, by its path from there."""
    if name not in messages() or name in seen:
        return
    for field in messages()[name].field:
        here = f"{path}{field.name}"
        yield here, field
        if field.type == FieldDescriptorProto.TYPE_MESSAGE:
            yield from reachable(field.type_name, f"{here}.", (*seen, name))


def test_every_secret_is_redacted() -> None:
    texts = {FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_BYTES}
    secret = re.compile(
        "(.+_)?(password|secret)|(access|refresh|challenge|login|registration)_token|(.+_)?(recovery|totp)_codes?|code"
    )
    assert not [
        f"{name}.{field.name}"
        for name, message in messages().items()
        for field in message.field
        if field.type in texts and secret.fullmatch(field.name) and not field.options.debug_redact
    ]


def test_no_secret_travels_in_an_address() -> None:
    for name, method, _ in methods():
        rule = method.options.Extensions[annotations_pb2.http]
        for binding in [rule, *rule.additional_bindings]:
            if binding.WhichOneof("pattern") is not None and binding.body != "*":
                secrets = [path for path, field in reachable(method.input_type) if field.options.debug_redact]
                assert not [path for path in secrets if path.partition(".")[0] != binding.body], name


def test_what_reads_returns_no_secret() -> None:
    assert not [
        f"{name}: {path}"
        for name, method, _ in methods()
        if re.search("/(Get|BatchGet|List|Search|Watch)", name)
        for path, field in reachable(method.output_type)
        if field.options.debug_redact and field_behavior_pb2.INPUT_ONLY not in behaviours(field)
    ]


@pytest.mark.parametrize("package", sorted({file.package for file in files()}))
def test_the_file_of_the_package_holds_its_main_service(package: str) -> None:
    _, name, version = package.split(".")
    main = next(file for file in files() if file.name == f"pyairtable/{name}/{version}/{name}.proto")
    assert main.service
    assert main.options.go_package == (
        f"github.com/pyairtable/pyairtable-protos/generated/go/pyairtable/{name}/{version};{name}{version}"
    )
