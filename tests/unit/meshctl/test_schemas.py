"""`permission schema test` and `diff`: in this process, and what a server is asked."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.meshctl.permission import differences, store_file, trial
from pyairtable_mesh.meshctl.problems import Problem
from tests import tools
from tests.unit.meshctl.fakes import FakeMesh, failure, invoke

ADDRESS = ("--address", "127.0.0.1:50051")
CORPUS = sorted((tools.REPOSITORY / "tests/unit/authorization/corpus").glob("*.yaml"))
MODEL = """model
  schema 1.1
type user
type group
  relations
    define member: [user]
type document
  relations
    define editor: [user, group#member]
    define viewer: [user:*, user with in_region] or editor
condition in_region(region: string) {
  region == "eu"
}
"""
CASES = """model_file: model.fga
tuples:
  - {user: "user:anne", relation: member, object: "group:eng"}
  - {user: "group:eng#member", relation: editor, object: "document:1"}
  - user: user:carl
    relation: viewer
    object: document:1
    condition: {name: in_region}
tests:
  - name: sharing
    tuples:
      - {user: "user:*", relation: viewer, object: "document:2"}
    check:
      - user: user:carl
        object: document:1
        context: {region: eu}
        assertions:
          viewer: true
          editor: false
      - {user: "user:carl", object: "document:1", assertions: {viewer: [region]}}
      - {users: ["user:anne", "user:bob"], objects: ["document:2"], assertions: {viewer: true}}
    list_objects:
      - {user: "user:anne", type: document, assertions: {viewer: ["document:1", "document:2"], editor: ["document:1"]}}
    list_users:
      - object: document:1
        user_filter: [{type: user}]
        assertions: {editor: {users: ["user:anne"]}}
      - {object: "document:2", user_filter: [{type: user}], assertions: {viewer: {users: ["user:*"]}}}
      - object: document:1
        user_filter: [{type: group, relation: member}]
        assertions: {editor: {users: ["group:eng#member"]}}
"""


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and its tests, which is where meshctl runs."""
    monkeypatch.chdir(tmp_path)
    Path("model.fga").write_text(MODEL)
    path = Path("cases.fga.yaml")
    path.write_text(CASES)
    return path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def local(*words: str) -> tuple[int, list[str], str]:
    done = invoke(FakeMesh(), "permission", "schema", *words, "--local")
    return done.exit_code, done.stdout.splitlines(), done.stderr


def test_all_that_a_store_file_can_say(cases: Path) -> None:
    assert local("test", str(cases)) == (0, ["ok    cases.fga.yaml: 14 of 14 assertions passed"], "")


def test_the_written_cases_pass() -> None:
    code, lines, _ = local("test", *map(str, CORPUS))
    assert (code, len(lines), {line.split()[0] for line in lines}) == (0, len(CORPUS), {"ok"})


def test_failed_assertions_are_told_with_file_and_line(cases: Path) -> None:
    change(cases, "viewer: true\n          editor: false", "viewer: false\n          editor: true")
    change(cases, "viewer: [region]", "viewer: [region, hour]")
    change(cases, '"document:1", "document:2"], editor: ["document:1"]', '"document:1"], editor: ["document:3"]')
    code, lines, _ = local("test", str(cases))
    assert (code, lines[-1]) == (1, "fail  cases.fga.yaml: 9 of 15 assertions passed")
    assert lines[0] == "fail  cases.fga.yaml:18: sharing: user:carl viewer document:1 is allowed, expected denied"
    assert lines[1].startswith("      user:carl is viewer of document:1")
    told = [line for line in lines[:-1] if line.startswith("fail")][1:]
    assert [line.removeprefix("fail  cases.fga.yaml:").split(": sharing: ") for line in told] == [
        ["19", "user:carl editor document:1 is denied, expected allowed"],
        ["20", "user:carl viewer document:1 is conditional on region, expected conditional on hour, region"],
        ["23", "user:anne viewer document:2 is allowed, expected denied"],
        ["23", "user:anne editor document:1 is allowed, expected denied"],
        ["23", "user:anne editor document:3 is denied, expected allowed"],
    ]


def test_failures_for_programs(cases: Path) -> None:
    change(cases, "editor: false", "editor: true")
    done = invoke(FakeMesh(), "permission", "schema", "test", "--local", "-o", "json", str(cases))
    [outcome] = json.loads(done.stdout)
    assert (done.exit_code, outcome["file"], outcome["assertions"]) == (1, "cases.fga.yaml", 14)
    [told] = outcome["failures"]
    assert (told["place"], told["expected"], told["actual"]) == ("cases.fga.yaml:19", "allowed", "denied")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("object: document:1\n        context", "objct: document:1\n        context", "15: objct is not known here"),
        ("          viewer: true", "          viewer: maybe", "18: viewer must be true, false, or the names"),
        ("          viewer: true", "          viewer: []", "18: viewer must be true, false, or the names"),
        ("- name: sharing", "- name: [sharing]", "10: name must be a text."),
        ('relation: member, object: "g', 'relation: member, item: "g', "3: item is not known"),
        ("model_file: model.fga\n", "", "1: model is missing."),
        ("tuples:\n  - {", "tuples:\n  - {{", "4: "),
        ("{viewer: [region]}", "{viewer: true, viewer: false}", "20: a key is there twice."),
        ("{region: eu}", "{region: !!binary aGk=}", "16: context has a value that JSON does not have."),
        ('users: ["user:anne", "user:bob"]', "users: []", "21: user is missing."),
        ("        user_filter: [{type: user}]\n", "", "25: user_filter is missing."),
        ("model_file: model.fga", "model_file: other.fga", "other.fga cannot be read as UTF-8 text."),
        ("model_file: model.fga", "model_file: model.fga\ntuple_file: a.csv", "a.csv cannot be read: tuples"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_understood_is_told_with_its_line(cases: Path, old: str, new: str, words: str) -> None:
    change(cases, old, new)
    code, lines, told = local("test", str(cases))
    assert (code, lines) == (2, [])
    assert words in told.splitlines()[0]


def test_aliases_do_not_make_a_context_of_any_size(cases: Path) -> None:
    fourfold = [f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}]" for old, new in pairwise("abcdefghijklmnopqrst")]
    change(cases, "{region: eu}", f"{{a: &a [1, 2], {', '.join(fourfold)}}}")
    code, _, told = local("test", str(cases))
    assert (code, told) == (2, "Error: cases.fga.yaml:16: context has more than 10000 values.\n")


def test_files_of_tuples(cases: Path) -> None:
    change(cases, "model_file: model.fga", "model_file: model.fga\ntuple_files: [tuples.json]")
    Path("tuples.json").write_text('[{"user": "user:bob", "relation": "editor", "object": "document:1"}]')
    code, lines, _ = local("test", str(cases))
    assert code == 1
    assert "cases.fga.yaml:28: sharing: user:bob editor document:1 is allowed, expected denied" in lines[0]
    Path("tuples.json").write_text('[{"user": "user:bob", "relation": "owner", "object": "document:1"}]')
    code, _, told = local("test", str(cases))
    assert (code, told.startswith("Error: INVALID_ARGUMENT: tuples.json:1: ")) == (67, True)


def test_a_model_that_is_refused_is_told_with_its_place(cases: Path) -> None:
    change(Path("model.fga"), "define editor", "defin editor")
    code, _, told = local("test", str(cases))
    assert code == 67
    assert "INVALID_ARGUMENT: model.fga: the schema cannot be used: line 9, column 5" in told


def test_an_assertion_that_cannot_be_answered_has_failed(cases: Path) -> None:
    change(cases, "editor: false", "owner: false")
    code, lines, _ = local("test", str(cases))
    assert (code, lines[0]) == (
        1,
        "fail  cases.fga.yaml:19: sharing: user:carl owner document:1 is not answered, expected denied",
    )


def test_a_file_without_tests_is_tried_and_not_called_ok(cases: Path) -> None:
    Path("only.yaml").write_text("model_file: model.fga\n")
    assert local("test", "only.yaml") == (0, ["warn  only.yaml: 0 of 0 assertions passed"], "")


def test_times_stay_texts(tmp_path: Path) -> None:
    path = tmp_path / "cases.yaml"
    check = "{user: u:1, object: d:1, context: {at: 2026-01-01T00:00:00Z}, assertions: {v: true}}"
    path.write_text(f"model: m\ntests:\n- check:\n  - {check}\n")
    [test] = store_file.read(path).tests
    assert test.expectations[0].assertion.check.context["at"] == "2026-01-01T00:00:00Z"


def test_grammar_and_conditions_are_imported_for_local_answers_only() -> None:
    program = (
        "import sys; import pyairtable_mesh.meshctl.permission.commands;"
        "sys.exit(bool({'lark', 'cel_expr_python', 'pyroaring'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_a_server_is_asked(cases: Path) -> None:
    [test] = store_file.read(cases).tests
    mesh = FakeMesh()
    answers = [answer(each) for each in test.expectations]
    mesh.serve(ADDRESS[1], "TestSchema", pb.TestSchemaResponse(results=answers, passed=True))
    done = invoke(mesh, "permission", "schema", "test", str(cases), *ADDRESS, "--space", "modelSpaces/s")
    assert (done.exit_code, done.stdout) == (0, "ok    cases.fga.yaml: 14 of 14 assertions passed\n")
    [request] = mesh.sent[-1].requests
    assert isinstance(request, pb.TestSchemaRequest)
    assert (request.schema.text, request.space, len(request.relationships)) == (MODEL, "modelSpaces/s", 4)
    assert request.relationships[2].condition.name == "in_region"
    first = request.assertions[0]
    assert (first.check.subject, first.check.permission, first.check.resource) == ("user:carl", "viewer", "document:1")
    assert (first.expected, first.check.context["region"]) == (pb.Decision.RESULT_ALLOWED, "eu")


def answer(expectation: store_file.Expectation) -> pb.AssertionResult:
    decision = pb.Decision(result=expectation.assertion.expected, missing_context=expectation.missing)
    return pb.AssertionResult(passed=True, actual=pb.CheckResult(decision=decision))


async def test_many_assertions_are_sent_in_several_requests(cases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "MAX_ASSERTIONS", 8)
    sizes = []

    async def ask(request: pb.TestSchemaRequest, _: type[pb.TestSchemaResponse]) -> pb.TestSchemaResponse:
        sizes.append(len(request.assertions))
        return pb.TestSchemaResponse(results=[pb.AssertionResult(passed=False)] * len(request.assertions))

    outcome = await trial.run(ask, store_file.read(cases), "")
    assert (sizes, outcome.assertions, len(outcome.failures)) == ([8, 6], 14, 14)


@pytest.mark.parametrize("words", [["test", "cases.fga.yaml"], ["diff", "model.fga", "model.fga"]])
def test_a_server_that_cannot_yet_says_what_can(cases: Path, words: list[str]) -> None:
    mesh = FakeMesh()
    for method in ("TestSchema", "DiffSchemas"):
        mesh.fail(ADDRESS[1], method, failure(12, "not yet"))
    done = invoke(mesh, "permission", "schema", *words, *ADDRESS)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (76, "Next:  try it in this process, with --local")


def test_a_difference_that_is_breaking(cases: Path) -> None:
    Path("new.fga").write_text(MODEL.replace("[user, group#member]", "[user]"))
    code, lines, _ = local("diff", "model.fga", "new.fga")
    assert (code, lines[-1]) == (1, "1 difference, 1 of them breaking.")
    assert lines[1].split("  ") == [
        "breaking", "changed", "document#editor", "[user, group#member]", "[user]", "no longer admits group#member"
    ]  # fmt: skip
    assert local("diff", "model.fga", "model.fga") == (0, ["No differences."], "")


def test_which_of_two_models_is_refused_is_told(cases: Path) -> None:
    Path("new.fga").write_text(MODEL.replace("define viewer", "defin viewer"))
    code, _, told = local("diff", "model.fga", "new.fga")
    assert (code, told.startswith("Error: INVALID_ARGUMENT: after: the schema cannot be used: line 10")) == (67, True)


@pytest.mark.parametrize(
    ("element", "before", "after", "effect", "reason"),
    [
        ("doc", "", "type doc", "compatible", ""),
        ("doc#viewer", "[user]", "", "breaking", "it is gone"),
        ("doc#viewer", "[user]", "[user, user:*]", "other answers", ""),
        ("doc#viewer", "[user] or editor", "[user] and editor", "other answers", ""),
        ("doc#viewer", "[user, team#member]", "[user with c]", "breaking", "no longer admits user, team#member"),
        ("doc#viewer", "[user] or editor", "editor", "breaking", "no longer admits user"),
        ("c", "condition c(a: int) {\n  a > 1\n}", "condition c(a: int) {\n  a > 2\n}", "other answers", ""),
        ("c", "condition c(a: int, b: int) {", "condition c(a: uint, b: int) {", "breaking", "no longer takes a: int"),
    ],
)
def test_effects(element: str, before: str, after: str, effect: str, reason: str) -> None:
    kinds = pb.SchemaDifference
    kind = kinds.KIND_CHANGED if before and after else kinds.KIND_ADDED if after else kinds.KIND_REMOVED
    judged = differences.judge(kinds(kind=kind, element=element, before=before, after=after))
    assert (judged.effect, judged.reason) == (effect, reason)


def test_a_comparison_with_what_is_stored(cases: Path) -> None:
    mesh = FakeMesh()
    mesh.serve(ADDRESS[1], "GetSchema", pb.Schema(name="schemas/platform-3"))
    orphaning = pb.SchemaDifference(
        kind=pb.SchemaDifference.KIND_CHANGED,
        element="document#editor",
        before="a",
        after="b",
        orphaned_relationships=7,
    )
    mesh.serve(ADDRESS[1], "DiffSchemas", pb.DiffSchemasResponse(differences=[orphaning]))
    words = ("permission", "schema", "diff", "--stored", "--space", "modelSpaces/s", "model.fga", *ADDRESS)
    done = invoke(mesh, *words, "-o", "json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["breaking"]) == (1, True)
    assert told["differences"][0]["reason"] == "7 stored relationships lose their meaning"
    asked, compared = (each.requests for each in mesh.sent)
    assert asked == [pb.GetSchemaRequest(space="modelSpaces/s")]
    assert compared == [pb.DiffSchemasRequest(before={"name": "schemas/platform-3"}, after={"text": MODEL})]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["diff", "model.fga"], "It takes two schemas to compare."),
        (["diff", "--stored", "model.fga", "model.fga"], "It takes two schemas to compare."),
        (["diff", "--stored", "--local", "model.fga"], "--local knows nothing that is stored."),
        (["test", "--space", "modelSpaces/s", "--local", "cases.fga.yaml"], "--local knows nothing that is stored."),
    ],
)
def test_what_does_not_go_together_is_told(cases: Path, words: list[str], told: str) -> None:
    done = invoke(FakeMesh(), "permission", "schema", *words)
    assert (done.exit_code, done.stderr.splitlines()[0]) == (2, f"Error: {told}")


@pytest.mark.parametrize("text", ["- 1\n", "a: &a [*a, b\n", "", "x: !!python/object:os.system {}\n"])
def test_what_is_no_store_file_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cases.yaml"
    path.write_text(text)
    with pytest.raises(Problem) as raised:
        store_file.read(path)
    assert (raised.value.exit_code, str(path) in raised.value.message) == (2, True)
