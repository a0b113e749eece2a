"""What a tree of subjects says about one subject."""

from collections.abc import Callable

from pyairtable.permission.v1 import permission_pb2 as pb


def says(node: pb.ExpansionNode, has: Callable[[pb.ExpansionNode], bool | None]) -> bool | None:
    """Whether the tree has the subject; None where that hangs on what was not opened, or on a condition. `has` says
    whether a leaf has it.
    """
    if node.truncated:
        return None
    if node.operation == pb.ExpansionNode.OPERATION_LEAF:
        return has(node)
    found = [says(each, has) for each in node.children]
    if node.operation == pb.ExpansionNode.OPERATION_UNION:
        return _any(found)
    if node.operation == pb.ExpansionNode.OPERATION_EXCLUSION:
        base, subtracted = found
        found = [base, _not(subtracted)]
    return _not(_any([_not(each) for each in found]))


def _any(found: list[bool | None]) -> bool | None:
    return True if True in found else None if None in found else False


def _not(found: bool | None) -> bool | None:
    return None if found is None else not found
