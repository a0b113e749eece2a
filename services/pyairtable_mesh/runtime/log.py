"""Log lines: one JSON object each, or lines for people; both with correlation id and trace id of the RPC in hand."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

from pyairtable_mesh.runtime import context

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_GREY, _RED, _YELLOW, _PLAIN = "\x1b[90m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


def configure(service: str, *, form: str, level: str) -> None:
    """Send the root logger to standard error in one of the two forms; what was configured before is replaced."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service) if form == "json" else ConsoleFormatter(service, sys.stderr.isatty()))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """What the call gave as `extra`, and the ids of the RPC that is being served."""
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    call = context.current_or_none()
    if call is not None:
        fields |= {"correlation_id": call.correlation_id, "method": call.method[1:]}
        if call.trace_id:
            fields["trace_id"] = call.trace_id
        if call.tenant_id:
            fields["tenant"] = call.tenant_id
    return fields


def _visible(text: str) -> str:
    """Control characters as escapes: what a caller wrote must not look like a line of ours, nor move the cursor."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class JsonFormatter(logging.Formatter):
    """``{"time", "level", "service", "logger", "message", …}``; an exception's stack stands under ``exception``."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class ConsoleFormatter(logging.Formatter):
    """``12:00:00.000 permission WARNING message key=value``, coloured where the stream is a terminal."""

    def __init__(self, service: str, coloured: bool) -> None:
        super().__init__()
        self._service = service
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the stack of an exception below it."""
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {key}={_visible(str(value))}" for key, value in _extra(record).items())
        line = f"{at} {self._service:<12} {record.levelname:<7} {_visible(record.getMessage())}"
        if self._coloured:
            colour = _RED if record.levelno >= logging.ERROR else _YELLOW if record.levelno >= logging.WARNING else ""
            line, fields = f"{colour}{line}{_PLAIN}", f"{_GREY}{fields}{_PLAIN}" if fields else ""
        stack = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return line + fields + stack
