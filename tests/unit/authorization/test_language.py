"""The modelling language: what is refused and where, and that a printed model is the same model."""

import pytest

from pyairtable_mesh.runtime.authorization.language.difference import Difference, Kind, differences
from pyairtable_mesh.runtime.authorization.language.errors import SchemaError
from pyairtable_mesh.runtime.authorization.language.parser import MAX_BYTES, MAX_NESTING, parse

HEAD = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1, column 1: the end of the line cannot stand here; expected 'model'"),
        ("model\n  schema 1.0\ntype user", "line 2, column 10: schema 1.0 is not 1.1"),
        (
            f"{HEAD}    define a: [user] or b and c",
            "line 6, column 27: 'and' cannot stand here; expected 'or' or a new line",
        ),
        (f"{HEAD}    define a: b or [user]", "line 6, column 20: '[' cannot stand here; expected '(' or a name"),
        (f"{HEAD}    define a: [user", "line 6, column 20: the end of the line cannot stand here; expected ']'"),
        ("module x", "line 1, column 1: 'module' belongs to modular models; put the whole model into one text"),
        (f"{HEAD}    define a: [nobody]", "line 6, column 16: there is no type 'nobody'"),
        (f"{HEAD}    define a: [doc#z]", "line 6, column 16: the type 'doc' has no relation 'z'"),
        (f"{HEAD}    define a: z", "line 6, column 15: the type 'doc' has no relation 'z'"),
        (f"{HEAD}    define a: [user, user]", "line 6, column 22: 'user' stands here twice"),
        (f"{HEAD}    define a: [user with c]", "line 6, column 16: there is no condition 'c'"),
        (f"{HEAD}    define a: [user]\n    define a: [user]", "line 7, column 12: there are two relations of doc 'a'"),
        (f"{HEAD}    define this: [user]", "line 6, column 12: a relation cannot be named 'this'"),
        (f"{HEAD}    define a: [user]\ntype user", "line 7, column 6: there are two types 'user'"),
        (
            f"{HEAD}    define p: [doc#p, doc]\n    define a: a from p",
            "line 7, column 15: 'from p' needs a relation to plain objects, not to sets of them",
        ),
        (
            f"{HEAD}    define p: [doc] or q\n    define q: [doc]\n    define a: a from p",
            "line 8, column 15: 'from p' needs a relation that is direct alone",
        ),
        (
            f"{HEAD}    define p: [user]\n    define a: b from p",
            "line 7, column 15: nothing that 'p' leads to has a relation 'b'",
        ),
        (
            f"{HEAD}    define a: [user] or b\n    define b: [user] or a",
            "line 6, column 12: doc#a is defined by itself",
        ),
        (
            f"{HEAD}    define p: [doc]\n    define a: a from p",
            "line 7, column 12: doc#a has no entry point: nobody could ever be in it",
        ),
        (
            f"{HEAD}    define a: [user]\ncondition c(x: int) {{ x > 1 }}",
            "line 7, column 11: the condition 'c' is not used",
        ),
        (
            f"{HEAD}    define a: [user with c]\ncondition c(x: number) {{ x > 1 }}",
            "line 7, column 11: the parameter 'x' has no type 'number'",
        ),
        (
            f"{HEAD}    define a: {'(' * (MAX_NESTING + 1)}[user]{')' * (MAX_NESTING + 1)}",
            f"line 6, column {15 + MAX_NESTING}: more than {MAX_NESTING} parentheses are open",
        ),
        ("#" * (MAX_BYTES + 1), f"a model has at most {MAX_BYTES} bytes"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(SchemaError) as caught:
        parse(text)
    assert str(caught.value.problems[0]) == problem
    assert caught.value.reason == "INVALID_SCHEMA"


def test_comments_keywords_as_names_and_broken_lines_are_read() -> None:
    text = """# a comment
model # another
  schema 1.1

type user
# between
type type # with a name like a keyword
  relations
    define relations: [user,
      user:*, type#relations]
    define model: [user] or (
      relations but not extend
    )
    define extend: [user with c]

condition c(names: list<string>, sizes: map<int>) {
  // braces and quotes are CEL's: }
  names == ["}"] && sizes == {"a": 1}
}
"""
    schema = parse(text)
    assert parse(str(schema)) == schema
    assert list(schema.types["type"].relations) == ["relations", "model", "extend"]


def test_differences_name_elements_with_their_text() -> None:
    before = parse(f"{HEAD}    define a: [user]\n    define b: a")
    after = parse(f"{HEAD}    define a: [user, user:*]\n    define c: a\ntype folder")
    assert differences(before, after) == [
        Difference(Kind.CHANGED, "doc#a", "[user]", "[user, user:*]"),
        Difference(Kind.REMOVED, "doc#b", "a", ""),
        Difference(Kind.ADDED, "doc#c", "", "a"),
        Difference(Kind.ADDED, "folder", "", "type folder"),
    ]
