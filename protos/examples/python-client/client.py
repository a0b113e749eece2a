"""Shows how a Python program calls the services of PyAirtable Mesh, with nothing but grpcio and the generated package.

python client.py [options] me | users | check RESOURCE PERMISSION | tail

Prints a JSON object a line. Exit status: 0 well, 1 refused, 2 wrong usage, 3 failed in a way that may pass.
"""

import argparse
import asyncio
import itertools
import logging
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import failure
import grpc
from channel import connect
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from interceptors import Outgoing

from pyairtable.common.v1 import audit_pb2, audit_pb2_grpc
from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc

SERVICES = {"me": "user", "users": "user", "check": "permission", "tail": "audit"}


async def call(channel: grpc.aio.Channel, arguments: argparse.Namespace) -> AsyncIterator[Message]:
    """Everything that a command answers with, as it comes."""
    if arguments.command == "me":
        yield await user_pb2_grpc.UserServiceStub(channel).GetMe(user_pb2.GetMeRequest())
    elif arguments.command == "users":
        async for user in users(user_pb2_grpc.UserServiceStub(channel), arguments.page_size):
            yield user
    elif arguments.command == "check":
        question = permission_pb2.CheckPermissionRequest(resource=arguments.resource, permission=arguments.permission)
        yield (await permission_pb2_grpc.PermissionServiceStub(channel).CheckPermission(question)).decision
    else:
        request = audit_pb2.TailAuditEventsRequest()
        async for some in audit_pb2_grpc.AuditServiceStub(channel).TailAuditEvents(request):
            for event in some.audit_events:
                yield event


async def users(stub: user_pb2_grpc.UserServiceStub, page_size: int) -> AsyncIterator[user_pb2.User]:
    """Page after page (AIP-158), each user as soon as its page is there."""
    request = user_pb2.ListUsersRequest(page_size=page_size)
    while True:
        page = await stub.ListUsers(request)
        for user in page.users:
            yield user
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def run(arguments: argparse.Namespace) -> int:
    """Make the call, print its answers; the exit status."""
    outgoing = Outgoing(arguments.token_file, arguments.correlation_id, arguments.timeout)
    target = arguments.target or f"xds:///{SERVICES[arguments.command]}"
    try:
        async with connect(target, outgoing) as channel:
            count = itertools.count(1)
            async for message in call(channel, arguments):
                print(MessageToJson(message, indent=None), flush=True)
                if next(count) == arguments.limit:
                    break
    except grpc.aio.AioRpcError as error:
        print(failure.in_words(error), file=sys.stderr)
        return failure.exit_code(error)
    return 0


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; it ends the program with status 2 where that is wrong."""
    parser = argparse.ArgumentParser(description="Call a service of PyAirtable Mesh.")
    parser.add_argument("--target", help="address (host:port) or xds:///service; without it, found in the mesh")
    parser.add_argument("--token-file", type=Path, help="file with the access token, read again for each call")
    parser.add_argument("--correlation-id", default=secrets.token_hex(16), help="id of these calls in every log")
    parser.add_argument("--timeout", type=float, default=10.0, help="deadline of each call, in seconds")
    parser.add_argument("--limit", type=int, default=0, help="end after so many answers")
    parser.add_argument("--verbose", action="store_true", help="log every call to standard error")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("me", help="who the token stands for (UserService.GetMe)")
    listing = commands.add_parser("users", help="everyone in the tenant, page by page (UserService.ListUsers)")
    listing.add_argument("--page-size", type=int, default=0, help="users a page; 0 leaves it to the service")
    check = commands.add_parser("check", help="may I? (PermissionService.CheckPermission)")
    check.add_argument("resource")
    check.add_argument("permission")
    commands.add_parser("tail", help="what happens in the tenant, live (AuditService.TailAuditEvents)")
    return parser.parse_args(words)


if __name__ == "__main__":
    parsed = parse()
    logging.basicConfig(level=logging.INFO if parsed.verbose else logging.WARNING, format="%(message)s")
    sys.exit(asyncio.run(run(parsed)))
