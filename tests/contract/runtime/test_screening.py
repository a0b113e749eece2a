"""The quick look never lets in what the rules engine refuses, for every type of request in the contracts."""

import importlib
import pkgutil
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyairtable.common.v1 import rules_pb2
from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.user.v1 import user_pb2
from pyairtable_mesh.runtime.screening import MAX_MATCHED, Screens
from pyairtable_mesh.runtime.validation import SchemaValidator

PACKAGES = ("common", "mesh", "permission", "user")
VALIDATOR = SchemaValidator()
SCREENS = Screens(lambda empty: (broken.field for broken in VALIDATOR.violations(empty)))
ID = "0" * 25 + "a"
TEXTS = ("", "read", "a\n", "x" * 513, "٣", "a b", f"usr{ID}", f"users/usr{ID}", f"user:usr{ID}", f"base:app{ID}\n")
UUID = "6b1f7f4e-7a41-4d7b-9f0e-0d5f6f1f2a11"


def types() -> list[Descriptor]:
    found: list[Descriptor] = []
    for name in PACKAGES:
        package = importlib.import_module(f"pyairtable.{name}.v1")
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.endswith("_pb2"):
                file = importlib.import_module(f"{package.__name__}.{module.name}").DESCRIPTOR
                found.extend(file.message_types_by_name.values())
    return sorted(found, key=lambda each: each.full_name)


def requests() -> list[Descriptor]:
    return [kind for kind in types() if kind.name.endswith("Request")]


def texts(rules: Any) -> st.SearchStrategy[str]:
    after = rules.Extensions[rules_pb2.id_after]
    some = st.sampled_from((*TEXTS, UUID, after + ID))
    pythons = rules.pattern and r"\P" not in rules.pattern  # a class that Python's expressions have not
    return some | st.from_regex(rules.pattern) if pythons else some


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if field.is_repeated and rules.repeated.HasField("items"):
        rules = rules.repeated.items
    if field.message_type is not None:
        return messages(field.message_type, depth - 1)
    if field.type == FieldDescriptor.TYPE_STRING:
        return texts(rules.string)
    return {
        FieldDescriptor.CPPTYPE_STRING: st.binary(max_size=40),
        FieldDescriptor.CPPTYPE_ENUM: st.integers(-1, 40),
        FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
        FieldDescriptor.CPPTYPE_DOUBLE: st.floats(-10, 10),
    }.get(field.cpp_type, st.integers(0, 1001))


@st.composite
def messages(draw: st.DrawFn, kind: Descriptor, depth: int = 2) -> Any:
    message = message_factory.GetMessageClass(kind)()
    for field in kind.fields:
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map or (field.message_type is not None and depth == 0) or not draw(st.booleans()):
            continue
        if field.is_repeated:
            items = draw(st.lists(values(field, depth), max_size=3)) * draw(st.sampled_from((1, 1, 40)))
            getattr(message, field.name).extend(items)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(draw(values(field, depth)))
        else:
            setattr(message, field.name, draw(values(field, depth)))
    return message


@pytest.mark.parametrize("kind", requests(), ids=lambda kind: kind.full_name)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_passes_breaks_no_rule(kind: Descriptor, data: st.DataObject) -> None:
    message = data.draw(messages(kind))
    if SCREENS.passes(message):
        assert VALIDATOR.violations(message) == []


@pytest.mark.parametrize(
    "request_",
    [
        pb.CheckPermissionRequest(resource=f"base:app{ID}", permission="read", subject=f"user:usr{ID}"),
        pb.BatchCheckPermissionsRequest(items=[pb.CheckItem(resource=f"base:app{ID}", permission="read")] * 3),
        pb.ListRolesRequest(page_size=50),
        user_pb2.GetUserRequest(name=f"users/usr{ID}"),
        user_pb2.BatchGetUsersRequest(names=[f"users/usr{ID}"]),
        user_pb2.DeleteUserRequest(name=f"users/usr{ID}", request_id=UUID),
    ],
    ids=lambda request_: type(request_).__name__,
)
def test_everyday_requests_need_no_engine(request_: Any) -> None:
    assert SCREENS.passes(request_)


def test_items_that_are_judged_one_by_one_keep_no_request_from_passing() -> None:
    batch = pb.BatchCheckPermissionsRequest(items=[pb.CheckItem(resource="no colon")])
    assert SCREENS.passes(batch)
    assert not VALIDATOR.violations(batch)
    assert not SCREENS.passes(pb.BatchCheckPermissionsRequest())


@pytest.mark.parametrize("text", ["x" * (MAX_MATCHED + 1), "base:app\n", "", "no colon"])
def test_what_is_in_doubt_is_left_to_the_engine(text: str) -> None:
    assert not SCREENS.passes(pb.CheckPermissionRequest(resource=text, permission="read"))


def test_a_broken_rule_of_the_message_itself_is_named() -> None:
    found = [
        kind
        for kind in types()
        if kind.GetOptions().HasExtension(validate_pb2.message)
        and any(not broken.field for broken in VALIDATOR.violations(message_factory.GetMessageClass(kind)()))
    ]
    for kind in found:
        assert not SCREENS.passes(message_factory.GetMessageClass(kind)())
    assert found


def test_a_schema_that_cannot_be_read_lets_nothing_pass() -> None:
    def unreadable(_empty: Any) -> list[str]:
        raise ValueError("no such rule")

    screens = Screens(unreadable)
    with pytest.raises(ValueError, match="no such rule"):
        screens.passes(pb.ListRolesRequest())
    assert not screens.passes(pb.ListRolesRequest())
