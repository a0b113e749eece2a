"""What the permission commands print, in each form."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from tests.unit.meshctl.fakes import FakeMesh, endpoint, invoke, platform, service
from tests.unit.meshctl.test_schemas import CASES, MODEL

ADDRESS = "127.0.0.1:50051"
BASE, BOB = "base:app01m8473sshe2pag2k95awq2af0", "user:usr01m8473sshe2pag2k955fjyg6a"
GROUP, WORKSPACE = "group:grp01m8473sshe2pag2k956qd4y8e", "workspace:wsp01m8473sshe2pag2k9577hm3sa"
COMMANDS = {
    "permission_check": ("check", BASE, "read", "--subject", BOB),
    "permission_explain": ("explain", BASE, "read", "--subject", BOB),
    "permission_who": ("who", BASE, "read"),
    "permission_what": ("what", "read", "base"),
    "permission_schema_test": ("schema", "test", "--local", "cases.fga.yaml"),
    "permission_schema_diff": ("schema", "diff", "--local", "model.fga", "new.fga"),
}
ENDING_WITH_1 = {"permission_check", "permission_schema_test", "permission_schema_diff"}
FORMS = [("table", "txt"), ("json", "json"), ("yaml", "yaml")]
Step = pb.ExplanationStep


@pytest.fixture
def mesh() -> FakeMesh:
    mesh = platform(service("permission", endpoint(ADDRESS)))
    conditional = pb.Decision(
        result=pb.Decision.RESULT_CONDITIONAL, missing_context=["hour", "region"], consistency_token="JmP3ZnLdXh"
    )
    mesh.serve(ADDRESS, "CheckPermission", pb.CheckPermissionResponse(decision=conditional))
    allowed, role = pb.Decision(result=pb.Decision.RESULT_ALLOWED, consistency_token="JmP3ZnLdXh"), "roleBindings/rbn1"
    path = [
        Step(kind=Step.KIND_MEMBERSHIP, object=GROUP, relation="member", subject=BOB),
        Step(kind=Step.KIND_ROLE_BINDING, object=WORKSPACE, relation="roles/editor", subject=GROUP, role_binding=role),
        Step(kind=Step.KIND_INHERITANCE, object=BASE, relation="workspace", subject=WORKSPACE),
    ]
    sentence = f"{BOB} may read {BASE}: roles/editor is bound to {GROUP} at {WORKSPACE}."
    explained = pb.ExplainPermissionResponse(decision=allowed, sentence=sentence, path=path)
    mesh.serve(ADDRESS, "ExplainPermission", explained)
    summary = pb.LookupSummary(count=2, complete=True, consistency_token="JmP3ZnLdXh")
    result = pb.Decision.RESULT_ALLOWED
    everybody = pb.FoundSubject(subject="user:*", result=result, excluded_subjects=["user:usr2"])
    subjects = [everybody, pb.FoundSubject(subject=BOB, result=conditional.result, missing_context=["region"])]
    first = pb.LookupSubjectsResponse(subjects=subjects[:1], cursor="0")
    mesh.serve(ADDRESS, "LookupSubjects", first, pb.LookupSubjectsResponse(subjects=subjects[1:], summary=summary))
    bases = [pb.FoundResource(resource=each, result=result) for each in ("base:app1", BASE)]
    mesh.serve(ADDRESS, "LookupResources", pb.LookupResourcesResponse(resources=bases, summary=summary))
    return mesh


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models and tests, of which two assertions fail, in the folder where meshctl runs."""
    monkeypatch.chdir(tmp_path)
    Path("model.fga").write_text(MODEL)
    changed = MODEL.replace("[user, group#member]", "[user]").replace('"eu"', '"de"').replace("type group", "type team")
    Path("new.fga").write_text(changed)
    Path("cases.fga.yaml").write_text(
        CASES.replace("editor: false", "editor: true").replace("[region]", "[region, hour]")
    )


@pytest.mark.parametrize(("form", "suffix"), FORMS)
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("files")
def test_output(name: str, form: str, suffix: str, golden: Callable[[str, str], None], mesh: FakeMesh) -> None:
    done = invoke(mesh, "permission", *COMMANDS[name], "-o", form)
    assert (done.exit_code, done.stderr) == (int(name in ENDING_WITH_1), "")
    golden(f"{name}.{suffix}", done.stdout)
