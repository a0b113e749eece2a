"""What a tree of subjects says about one subject."""

from collections.abc import Callable

from pyairtable.permission.v1 import permission_pb2 as pb


def says(node: pb.ExpansionNode, counts_as: Callable[[str], bool]) -> bool | None:
    """Whether the tree has the subject; None where that hangs on what was not opened. `counts_as` says whether the
    subject is one of a leaf's.
    """
    if node.truncated:
        return None
    if node.operation == pb.ExpansionNode.OPERATION_LEAF:
        return any(map(counts_as, node.subjects))
    found = [says(each, counts_as) for each in node.children]
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
