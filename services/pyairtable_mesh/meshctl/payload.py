"""Requests in JSON become messages, responses become JSON."""

import json
import sys
from pathlib import Path
from typing import Any

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message

from pyairtable_mesh.meshctl.problems import USAGE, Problem

MAX_BYTES = 64 << 20
"""Of all requests of a call together."""


def read(body: str) -> str:
    """The text of ``@file`` or ``-`` (standard input), or the text itself; waits for standard input to end."""
    if body != "-" and not body.startswith("@"):
        return body
    try:
        if body == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(body[1:]).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        text = content.decode()
    except (OSError, UnicodeDecodeError):
        words = f"{body.removeprefix('@')} cannot be read as UTF-8 text."
        raise Problem(words, "check the name and the rights of the file", exit_code=USAGE) from None
    if len(content) > MAX_BYTES:
        raise Problem(
            f"The requests are larger than {MAX_BYTES >> 20} MiB.", "send them in several calls", exit_code=USAGE
        )
    return text


def requests(method: MethodDescriptor, text: str) -> list[Message]:
    """The messages of a call: JSON objects after each other. Without any, a unary request is the empty message."""
    objects = _objects(text)
    if not method.client_streaming:
        objects = objects or [{}]
        if len(objects) > 1:
            words = f"{method.name} takes one request, not {len(objects)}."
            raise Problem(words, "write one JSON object", exit_code=USAGE)
    return [_message(method.input_type, content) for content in objects]


def _objects(text: str) -> list[Any]:
    decoder, objects, position = json.JSONDecoder(), [], 0
    while rest := text[position:].lstrip():
        try:
            content, position = decoder.raw_decode(text, len(text) - len(rest))
        except (json.JSONDecodeError, RecursionError) as error:
            known = isinstance(error, json.JSONDecodeError)
            where = str(error) if known else "it is nested too deeply"
            words, steps = "The request is no JSON.", "mind the quotes of your shell"
            raise Problem(words, steps, exit_code=USAGE, details=[where]) from None
        objects.append(content)
    return objects


def _message(kind: Descriptor, content: Any) -> Message:
    message: Message = message_factory.GetMessageClass(kind)()
    pool: Any = kind.file.pool
    if not isinstance(content, dict):
        raise _misfit(kind, "a request is a JSON object")
    try:
        json_format.ParseDict(content, message, descriptor_pool=pool)
    except (json_format.ParseError, TypeError, ValueError) as error:
        raise _misfit(kind, " ".join(str(error).partition(" Available Fields")[0].split())) from None
    return message


def _misfit(kind: Descriptor, why: str) -> Problem:
    fields = ", ".join(field.name for field in kind.fields) or "none"
    words, steps = f"The request does not fit {kind.full_name}.", f"its fields are: {fields}"
    return Problem(words, steps, exit_code=USAGE, details=[why])
