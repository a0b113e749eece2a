"""Log lines: one to each record, whatever a caller wrote into it."""

import json
import logging

import pytest

from pyairtable_mesh.runtime.log import ConsoleFormatter, JsonFormatter

FORMATTERS = [ConsoleFormatter("user", coloured=False), JsonFormatter("user")]


@pytest.mark.parametrize("formatter", FORMATTERS, ids=["console", "json"])
@pytest.mark.parametrize("hostile", ["a\n12:00:00 user INFO all is well", "\x1b[2J", "\r", "\u2028", "\x9b2J"])
def test_what_a_caller_wrote_is_no_line_of_ours(formatter: logging.Formatter, hostile: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "name %s", (hostile,), None)
    record.field = hostile
    line = formatter.format(record)
    assert len(line.splitlines()) == 1
    assert hostile not in line


def test_a_line_of_json_says_what_and_where() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "name %s", ("ü",), None)
    line = json.loads(JsonFormatter("user").format(record))
    assert (line["message"], line["level"], line["service"]) == ("name ü", "INFO", "user")
