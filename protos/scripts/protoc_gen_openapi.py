#!/usr/bin/env python
"""A protoc plugin that makes the OpenAPI 3.1 document: protoc-gen-connect-openapi, and what it leaves to be said.

That plugin translates paths, parameters, messages and validation rules. Added here, from the same
descriptors: the error responses that each method's comment names, the pattern of each part of a path,
the form of streams, ids that are CEL rules. Taken away: what nothing refers to, and texts that repeat
the documentation of protobuf's own types or spell rules out in another notation.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodDescriptorProto

Json = dict[str, Any]

DOCUMENT = "pyairtable.json"
OPTIONS = (
    f"path={DOCUMENT},format=json,base=openapi.base.yaml,features=google.api.http;protovalidate,"
    "with-google-error-detail,with-streaming,short-service-tags"
)
HTTP_STATUS = {  # google/rpc/code.proto says which
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
ALWAYS = {"INVALID_ARGUMENT", "UNAUTHENTICATED"}
STATUS = {"$ref": "#/components/schemas/google.rpc.Status"}
DURATION = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "examples": ["1.5s"]}
ID_CHARACTERS = "[0-9a-hjkmnp-tv-z]{26}"
CONTROL_CHARACTERS = r"\x00-\x1f\x7f-\x9f"
ID_RULE = re.compile(r'^\s*string\.id_after = "(.*)"$', re.MULTILINE)
RULE_IN_WORDS = re.compile(r"^\s*(?:[a-z]+\.[a-z_]+ = .*|[a-z_]+(?:\.[a-z_0-9]+)+ // .*)\n?", re.MULTILINE)
BEHAVIOUR = re.compile(r"^\((?:OPTIONAL|IDENTIFIER|IMMUTABLE|REQUIRED|OUTPUT_ONLY|INPUT_ONLY)\) ")
OF_PROTOBUF_ITSELF = (
    "A Duration represents",
    "A Timestamp represents",
    "`FieldMask` represents",
    "`Struct` represents",
)
PUBLIC = re.compile(r"(?:none|public)(?:[;.:]|$)")
SCHEMA_REFERENCE = re.compile(r"#/components/schemas/([\w.]+)")
VERBS = ("get", "put", "post", "delete", "patch")


def main() -> None:
    """Read a CodeGeneratorRequest from standard input and answer it on standard output."""
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    request.parameter = OPTIONS
    plugin = [shutil.which("protoc-gen-connect-openapi") or "protoc-gen-connect-openapi"]
    done = subprocess.run(plugin, input=request.SerializeToString(), stdout=subprocess.PIPE, check=True)  # noqa: S603
    response = CodeGeneratorResponse.FromString(done.stdout)
    for file in response.file:
        document = finish(json.loads(file.content), methods(request))
        file.content = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    sys.stdout.buffer.write(response.SerializeToString())


def methods(request: CodeGeneratorRequest) -> dict[str, tuple[MethodDescriptorProto, str]]:
    """Every method and its comment, by full name."""
    return {name: found for file in request.proto_file for name, *found in _methods_of(file)}  # type: ignore[misc]


def _methods_of(file: FileDescriptorProto) -> Iterator[tuple[str, MethodDescriptorProto, str]]:
    comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    for i, service in enumerate(file.service):
        for j, method in enumerate(service.method):
            yield f"{file.package}.{service.name}.{method.name}", method, comments.get((6, i, 2, j), "")


def finish(document: Json, known: dict[str, tuple[MethodDescriptorProto, str]]) -> Json:
    """The document with what the plugin leaves out, without what it says too much."""
    schemas = document["components"]["schemas"]
    schemas["google.protobuf.Duration"] = dict(DURATION)
    for schema in _schemas(document):
        _tidy(schema)
    for tag in document["tags"]:
        tag["description"] = _unindented(tag.get("description", ""))
    for path, operation in _operations(document):
        name = operation["operationId"]
        method, comment = known[name] if name in known else known[re.sub(r"\d+$", "", name)]  # of a further path
        _finish_operation(operation, method, comment)
        _bound_path(path, operation, method, schemas)
    document["components"]["responses"] = dict(sorted(_error_responses(document)))
    used = {tag for _, operation in _operations(document) for tag in operation["tags"]}
    document["tags"] = [tag for tag in document["tags"] if tag["name"] in used]
    _drop_unused(document)
    return document


def _finish_operation(operation: Json, method: MethodDescriptorProto, comment: str) -> None:
    package_and_service, _, name = operation["operationId"].rpartition(".")
    operation["operationId"] = f"{package_and_service.rpartition('.')[2]}_{name}"
    operation["summary"] = name
    operation["description"] = words = _unindented(comment)
    for parameter in operation.get("parameters", []):
        parameter["description"] = _unindented(parameter["description"])
        parameter["schema"].pop("description", None)
    permission = re.search(r"^Permission: (.*)$", words, re.MULTILINE)
    if permission and PUBLIC.match(permission[1]):
        operation["security"] = []
    if method.server_streaming:
        success = operation["responses"]["200"]
        success["description"] = "A stream: one JSON object a line, each with a `result`, or an `error` as the last."
        [media] = success["content"].values()
        line = {"type": "object", "properties": {"result": media["schema"], "error": STATUS}}
        success["content"] = {"application/x-ndjson": {"schema": line}}
    errors = re.search(r"^Errors: (.*?)(?:^(?:A retry|Retry)|\Z)", words, re.MULTILINE | re.DOTALL)
    codes = set(re.findall(r"\b[A-Z_]+\b", errors[1])) & HTTP_STATUS.keys() if errors else set()
    codes |= ALWAYS | ({"PERMISSION_DENIED"} if permission and "`" in permission[1] else set())
    for status in sorted({HTTP_STATUS[code] for code in codes}):
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/{status}"}
    operation["responses"]["default"] = {"$ref": "#/components/responses/default"}


def _error_responses(document: Json) -> Iterator[tuple[str, Json]]:
    content = {"application/json": {"schema": STATUS}}
    used = {status for _, operation in _operations(document) for status in operation["responses"]} - {"200", "default"}
    for status in used:
        codes = [code for code, number in HTTP_STATUS.items() if str(number) == status]
        yield status, {"description": " or ".join(codes), "content": content}
    yield "default", {"description": "Any other failure.", "content": content}


def _bound_path(path: str, operation: Json, method: MethodDescriptorProto, schemas: Json) -> None:
    """Give each part of the path the pattern that the rule of its field has for it."""
    rule = method.options.Extensions[annotations_pb2.http]
    for variable, template in _variables(rule):
        pattern = _rule_of(method.input_type.removeprefix("."), variable.split("."), schemas)
        wanted, given = template.split("/"), pattern.removeprefix("^").removesuffix("$").split("/")
        if len(wanted) != len(given):
            continue
        for literal, star, rule_of_part in zip(["", *wanted], wanted, given, strict=False):
            for parameter in operation.get("parameters", []):
                inside = f"/{literal}/{{{parameter['name']}}}" in path
                if star == "*" and parameter["in"] == "path" and inside:
                    parameter["schema"]["pattern"] = f"^{rule_of_part}$"


def _variables(rule: http_pb2.HttpRule) -> Iterator[tuple[str, str]]:
    """Each `{field=template}` of a rule's path."""
    for binding in (rule, *rule.additional_bindings):
        path = getattr(binding, binding.WhichOneof("pattern") or "get")
        yield from re.findall(r"\{([^}=]+)=([^}]+)\}", path)


def _rule_of(message: str, fields: list[str], schemas: Json) -> str:
    properties = {schema.get("title"): schema for schema in schemas.get(message, {}).get("properties", {}).values()}
    schema = properties.get(fields[0], {})
    if fields[1:] and "$ref" in schema:
        return _rule_of(schema["$ref"].rpartition("/")[2], fields[1:], schemas)
    return str(schema.get("pattern", ""))


def _operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, operations in document["paths"].items():
        yield from ((path, operations[verb]) for verb in VERBS if verb in operations)


def _schemas(document: Json) -> Iterator[Json]:
    """Every schema of the document, those inside others too."""
    for schema in document["components"]["schemas"].values():
        yield from _within(schema)
    for _, operation in _operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        media = [each for body in bodies for each in body.get("content", {}).values()]
        for holder in [*operation.get("parameters", []), *media]:
            yield from _within(holder["schema"])


def _within(schema: Json) -> Iterator[Json]:
    yield schema
    inner = [*schema.get("properties", {}).values()]
    inner += [schema[key] for key in ("items", "additionalProperties", "not") if isinstance(schema.get(key), dict)]
    inner += [each for key in ("oneOf", "anyOf", "allOf") for each in schema.get(key, [])]
    for each in inner:
        yield from _within(each)


def _tidy(schema: Json) -> None:
    words = schema.pop("description", "")
    if rule := ID_RULE.search(words):
        schema["pattern"] = f"^{rule[1]}{ID_CHARACTERS}$"
    if "pattern" in schema:  # JSON Schema asks for what every regular expression engine knows
        schema["pattern"] = (
            schema["pattern"].replace(r"\P{Cc}", f"[^{CONTROL_CHARACTERS}]").replace(r"\p{Cc}", CONTROL_CHARACTERS)
        )
    if schema.get("format") == "duration":
        del schema["format"]
        schema.update(DURATION)
    if schema.get("type") == "boolean" and "const" in schema:
        schema["const"] = True
    if schema.get("additionalProperties") is False:
        del schema["additionalProperties"]  # a client of today must take the fields of tomorrow
    words = _unindented(BEHAVIOUR.sub("", RULE_IN_WORDS.sub("", words)))
    if words and not words.startswith(OF_PROTOBUF_ITSELF):
        schema["description"] = words


def _unindented(comment: str) -> str:
    return comment.replace("\n ", "\n").strip()


def _drop_unused(document: Json) -> None:
    """Take away the schemas that no operation leads to."""
    schemas = document["components"]["schemas"]
    reached: set[str] = set()
    pending = [document["paths"], document["components"]["responses"]]
    while pending:
        names = set(SCHEMA_REFERENCE.findall(json.dumps(pending.pop()))) - reached
        reached |= names
        pending += [schemas[name] for name in names]
    document["components"]["schemas"] = {name: schema for name, schema in schemas.items() if name in reached}


if __name__ == "__main__":
    main()
