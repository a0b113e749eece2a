"""What the drivers raise, in the words of the error tree. Their texts name hosts and rows, and stay in the log."""

from collections.abc import Iterator
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
    except OSError as error:
        raise Unavailable("the database cannot be reached", reason="DATABASE_UNAVAILABLE") from error


def _known(error: DBAPIError) -> MeshError | None:
    state = str(getattr(error.orig, "sqlstate", ""))
    if state in _BY_STATE:
        return _BY_STATE[state]()
    if state.startswith(("08", "53", "57P")) or error.connection_invalidated:
        return Unavailable("the database is away", reason="DATABASE_UNAVAILABLE")
    if getattr(error.orig, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Unavailable("another process is writing to the database", reason="DATABASE_BUSY")
    return None


def _conflict() -> MeshError:
    return Aborted("a concurrent change won: read again and retry", reason="TRANSACTION_CONFLICT")


def _busy() -> MeshError:
    return Unavailable("what is asked for is locked by another change", reason="DATABASE_BUSY")


def _too_slow() -> MeshError:
    return DeadlineExceeded("the database took too long to answer", reason="DATABASE_TIMEOUT")


# serialization_failure, deadlock_detected, lock_not_available, query_canceled
_BY_STATE = {"40001": _conflict, "40P01": _conflict, "55P03": _busy, "57014": _too_slow}
