"""Turns what is raised inside into the one status a caller gets; no exception's text ever leaves."""

import asyncio
import logging
import secrets
from typing import Any

import grpc

from pyairtable_mesh.runtime import errors, status
from pyairtable_mesh.runtime.interceptors.call import Call, Method, Proceed

logger = logging.getLogger(__name__)


def intercept(method: Method, proceed: Proceed) -> Proceed:
    """Answer with the status of a `MeshError`; anything unknown is logged under an id and leaves as INTERNAL."""

    async def run(call: Call) -> Any:
        try:
            call.check_encoding()
            return await proceed(call)
        except errors.MeshError as error:
            failure = error
            if status.code_of(error) is grpc.StatusCode.INTERNAL:
                failure = _hidden(method, error)
        except asyncio.CancelledError:
            call.status = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - the one place where the unknown becomes INTERNAL
            failure = _hidden(method, error)
        call.status = status.code_of(failure)
        told = status.to_status(failure)
        return await call.rpc.abort(call.status, told.message, ((status.DETAILS_KEY, told.SerializeToString()),))

    return run


def _hidden(method: Method, error: BaseException) -> errors.MeshError:
    error_id = secrets.token_hex(8)
    logger.error("%s failed", method.name, extra={"error_id": error_id}, exc_info=error)
    words = f"internal error {error_id}; the service's log has the cause under this id"
    return errors.MeshError(words, metadata={"error_id": error_id})
