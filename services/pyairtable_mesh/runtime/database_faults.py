"""What the drivers raise, in the words of the error tree. Their texts name hosts and rows, and stay in the log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pyairtable_mesh.runtime.errors import Aborted, DeadlineExceeded, MeshError, Unavailable


@contextmanager
def translated() -> Iterator[None]:
    """Turn what may pass with time into `Unavailable`, `Aborted`, `DeadlineExceeded`; broken constraints go through."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        if (known := _known(error)) is not None:
            raise known from error
        raise
    except PoolTimeout as error:
        raise Unavailable("all connections to the database are busy", reason="DATABASE_BUSY") from error


@contextmanager
def reaching() -> Iterator[None]:
    """Around the making of a connection only: elsewhere an OSError has nothing to do with the database."""
    try:
        yield
    except OSError as error:
        raise Unavailable("the database cannot be reached", reason="DATABASE_UNAVAILABLE") from error


def _known(error: DBAPIError) -> MeshError | None:
    state = str(getattr(error.orig, "sqlstate", ""))
    if state in _BY_STATE:
        return _BY_STATE[state]()
    sqlite = str(getattr(error.orig, "sqlite_errorname", ""))
    if sqlite.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return _busy()
    if state.startswith(_AWAY) or sqlite.startswith(_BROKEN) or error.connection_invalidated:
        return Unavailable("the database is away", reason="DATABASE_UNAVAILABLE")
    return None


def _conflict() -> MeshError:
    return Aborted("a concurrent change won: read again and retry", reason="TRANSACTION_CONFLICT")


def _busy() -> MeshError:
    return Unavailable("what is asked for is locked by another change", reason="DATABASE_BUSY")


def _too_slow() -> MeshError:
    return DeadlineExceeded("the database took too long to answer", reason="DATABASE_TIMEOUT")


# connection, authorization, no such database, resources, operator intervention
_AWAY = ("08", "28", "3D", "53", "57P")
_BROKEN = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")
_BY_STATE: dict[str, Callable[[], MeshError]] = {
    "40001": _conflict,  # serialization_failure
    "40P01": _conflict,  # deadlock_detected
    "55P03": _busy,  # lock_not_available
    "57014": _too_slow,  # query_canceled
}
