"""Where a streamed list was left off, for its client to carry."""

import json
from typing import Any

from google.protobuf.message import Message

from pyairtable_mesh.permission.usecases.lookups import Place
from pyairtable_mesh.runtime import pagination
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import InvalidArgument


class Cursors:
    """Seals where a list was left off, for the same caller and the same request."""

    def __init__(self, sealer: pagination.Sealer) -> None:
        self._sealer = sealer

    def sealed(self, caller: RequestContext, request: Message, values: list[Any]) -> str:
        """The cursor of a place."""
        payload = json.dumps(values, separators=(",", ":")).encode()
        return self._sealer.seal("cursor", payload, *_binding(caller, request))

    def opened(self, caller: RequestContext, request: Any) -> list[Any] | None:
        """The place of the request's cursor; None without one. InvalidArgument for one of another list."""
        if not request.cursor:
            return None
        try:
            found: list[Any] = json.loads(self._sealer.open("cursor", request.cursor, *_binding(caller, request)))
        except pagination.SealBrokenError:
            words = "is not from this list with the same arguments; begin again without one"
            raise InvalidArgument.of_field("cursor", words, reason="CURSOR_INVALID") from None
        return found

    def of(self, caller: RequestContext, request: Message, place: Place) -> str:
        """The cursor of a place in a look-up."""
        return self.sealed(caller, request, [place.revision, place.after, place.count])

    def place(self, caller: RequestContext, request: Message) -> Place | None:
        """The place of a look-up's cursor."""
        found = self.opened(caller, request)
        return Place(*found) if found is not None else None

    def exported(self, caller: RequestContext, request: Message) -> tuple[int, tuple[str, str, str] | None]:
        """The revision (0: none yet) and key of an export's cursor."""
        found = self.opened(caller, request)
        return (int(found[0]), (str(found[1]), str(found[2]), str(found[3]))) if found else (0, None)


def _binding(caller: RequestContext, request: Message) -> tuple[str | bytes, ...]:
    arguments = type(request)()
    arguments.CopyFrom(request)
    for name in ("cursor", "limit", "consistency"):
        if name in request.DESCRIPTOR.fields_by_name:
            arguments.ClearField(name)
    return caller.method, caller.tenant_id, caller.actor.subject, arguments.SerializeToString(deterministic=True)
