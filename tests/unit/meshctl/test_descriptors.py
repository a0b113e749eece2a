import pytest

from pyairtable_mesh.meshctl.descriptors import Target, candidates, choose, guessed_names, installed
from pyairtable_mesh.meshctl.problems import Problem

SERVICES = installed()


@pytest.mark.parametrize(
    ("words", "target"),
    [
        (["GetMe"], Target("", "", "GetMe")),
        (["user", "GetMe"], Target("user", "", "GetMe")),
        (["user/GetMe"], Target("user", "", "GetMe")),
        (["user.staging/GetMe"], Target("user.staging", "", "GetMe")),
        (["UserService/GetMe"], Target("", "UserService", "GetMe")),
        (["pyairtable.user.v1.UserService/GetMe"], Target("", "pyairtable.user.v1.UserService", "GetMe")),
        (["user", "DiagnosticsService/GetHealthReport"], Target("user", "DiagnosticsService", "GetHealthReport")),
    ],
)
def test_a_target_is_read(words: list[str], target: Target) -> None:
    assert Target.parse(words) == target


@pytest.mark.parametrize(
    ("words", "method"),
    [
        (["GetMe"], "pyairtable.user.v1.UserService.GetMe"),
        (["UserService/GetMe"], "pyairtable.user.v1.UserService.GetMe"),
        (["user.pyairtable/GetMe"], "pyairtable.user.v1.UserService.GetMe"),
        (["user", "GetHealthReport"], "pyairtable.common.v1.DiagnosticsService.GetHealthReport"),
        (["audit", "ListAuditEvents"], "pyairtable.common.v1.AuditService.ListAuditEvents"),
        (["mesh", "ListClients"], "pyairtable.mesh.v1.StatusService.ListClients"),
    ],
)
def test_the_method_is_found_among_the_installed_ones(words: list[str], method: str) -> None:
    target = Target.parse(words)
    assert choose(target, candidates(target, SERVICES)).full_name == method


@pytest.mark.parametrize("words", [["invoices", "ListInvoices"], ["acme.invoices.v1.InvoiceService/ListInvoices"]])
def test_what_is_not_installed_is_left_to_reflection(words: list[str]) -> None:
    assert candidates(Target.parse(words), SERVICES) == []


def test_a_misspelt_method_is_answered_with_names_alike() -> None:
    target = Target("user", "", "GetMee")
    with pytest.raises(Problem, match=r"There is no method GetMee\.") as told:
        choose(target, candidates(target, SERVICES))
    assert "GetMe" in told.value.next_step


def test_a_method_of_several_services_is_asked_back() -> None:
    with pytest.raises(Problem, match="is a method of several services"):
        choose(Target("", "", "GetMe"), [*SERVICES, *SERVICES])


@pytest.mark.parametrize(
    ("service", "names"),
    [
        ("pyairtable.user.v1.UserService", ["user", "user"]),
        ("pyairtable.common.v1.AuditService", ["common", "audit"]),
        ("acme.billing.invoices.v2beta1.Invoices", ["invoices", "invoices"]),
        ("Plain", ["plain"]),
    ],
)
def test_the_name_in_the_mesh_is_guessed(service: str, names: list[str]) -> None:
    assert guessed_names(service) == names
