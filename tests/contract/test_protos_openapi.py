"""The OpenAPI document: valid by linters that are not ours, and true to the annotations."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

GENERATED = Path(__file__).parents[2] / "protos" / "generated"
DOCUMENT = GENERATED / "openapi" / "pyairtable.json"
REDOCLY = "@redocly/cli@2.77.0"
VERBS = {"get", "put", "post", "delete", "patch"}


@cache
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DOCUMENT.read_text())
    return loaded


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document()["paths"].items():
        yield from ((verb, path, operation) for verb, operation in item.items() if verb in VERBS)


def operation(name: str) -> dict[str, Any]:
    return next(each for _, _, each in operations() if each["operationId"] == name)


def parameters(name: str) -> dict[str, dict[str, Any]]:
    return {parameter["name"]: parameter for parameter in operation(name)["parameters"]}


def test_it_is_valid() -> None:
    assert document()["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(document())


@pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not on PATH: the document is not linted by redocly")
def test_redocly_has_nothing_to_say() -> None:
    command = ["npx", "--yes", REDOCLY, "lint", "--format", "json", str(DOCUMENT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["problems"] == []


def test_every_annotation_has_its_operation() -> None:
    annotated: set[tuple[str, str, str]] = set()
    for file in FileDescriptorSet.FromString((GENERATED / "descriptors.binpb").read_bytes()).file:
        for service in file.service if file.package.startswith("pyairtable.") else []:
            for method in service.method:
                rule = method.options.Extensions[annotations_pb2.http]
                for binding in [rule, *rule.additional_bindings]:
                    if verb := binding.WhichOneof("pattern"):
                        path = re.sub(
                            r"\{[^}=]+=([^}]+)\}|\{[^}]+\}", lambda match: match[1] or "*", getattr(binding, verb)
                        )
                        annotated.add((f"{service.name}_{method.name}", verb, path))
    described = {
        (re.sub(r"\d+$", "", each["operationId"]), verb, re.sub(r"\{[^}]+\}", "*", path))
        for verb, path, each in operations()
    }
    assert described == annotated


def test_every_operation_says_how_it_fails() -> None:
    status = {"$ref": "#/components/schemas/google.rpc.Status"}
    responses = document()["components"]["responses"]
    assert {
        name for name, response in responses.items() if response["content"]["application/json"]["schema"] != status
    } == set()
    for _, _, each in operations():
        assert {"200", "400", "401", "default"} <= each["responses"].keys()
    assert {"404", "409"} <= operation("UserService_UpdateUser")["responses"].keys()


def test_the_bearer_token_is_required() -> None:
    assert document()["security"] == [{"bearer": []}]
    assert document()["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_methods_that_are_open_to_anyone_need_no_token() -> None:
    assert operation("UserService_VerifyEmail")["security"] == []
    assert "security" not in operation("UserService_GetMe")
    assert "security" not in operation("PermissionService_CheckPermission")


def test_rules_are_bounds() -> None:
    listing = parameters("UserService_ListUsers")
    assert (listing["pageSize"]["in"], listing["pageSize"]["schema"]["minimum"]) == ("query", 0)
    assert listing["filter"]["schema"]["maxLength"] == 2000
    assert parameters("UserService_GetUser")["user"]["schema"]["pattern"] == "^usr[0-9a-hjkmnp-tv-z]{26}$"
    event = document()["components"]["schemas"]["pyairtable.common.v1.AuditEvent"]["properties"]
    assert event["tenant"]["pattern"] == "^tenants/ten[0-9a-hjkmnp-tv-z]{26}$"


def test_what_is_sent_in_the_body_is_no_parameter() -> None:
    update = operation("UserService_UpdateUser")
    assert set(parameters("UserService_UpdateUser")) == {"user", "updateMask", "requestId"}
    [media] = update["requestBody"]["content"].values()
    assert media["schema"]["$ref"] == "#/components/schemas/pyairtable.user.v1.User"


def test_a_stream_is_lines() -> None:
    [(kind, media)] = operation("AuditService_TailAuditEvents")["responses"]["200"]["content"].items()
    assert kind == "application/x-ndjson"
    assert media["schema"]["properties"]["result"]["$ref"].endswith(".TailAuditEventsResponse")


def test_comments_are_there() -> None:
    assert [each["operationId"] for _, _, each in operations() if "Permission: " not in each["description"]] == []
    schemas = document()["components"]["schemas"]
    assert [
        name for name, schema in schemas.items() if name.startswith("pyairtable.") and not schema.get("description")
    ] == []
