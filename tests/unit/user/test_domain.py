from dataclasses import fields, replace
from datetime import timedelta
from itertools import product

import pytest

from pyairtable_mesh.runtime.errors import Aborted, FailedPrecondition
from pyairtable_mesh.user import domain
from pyairtable_mesh.user.domain import Status, User
from tests.unit.user.people import EPOCH, kept_for, person, team

ALLOWED = {
    (Status.INVITED, Status.ACTIVE),
    (Status.INVITED, Status.DEACTIVATED),
    (Status.ACTIVE, Status.SUSPENDED),
    (Status.ACTIVE, Status.DEACTIVATED),
    (Status.SUSPENDED, Status.ACTIVE),
    (Status.SUSPENDED, Status.DEACTIVATED),
    (Status.DEACTIVATED, Status.ACTIVE),
}


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
def test_the_status_machine_has_these_moves_and_no_others(before: Status, after: Status) -> None:
    user = person(1, status=before, status_reason="old")
    now = EPOCH + timedelta(days=1)
    if (before, after) in ALLOWED:
        assert user.moved(after, "new", now) == replace(user, status=after, status_reason="new", update_time=now)
        return
    with pytest.raises(FailedPrecondition) as refused:
        user.moved(after, "new", now)
    assert refused.value.reason == "STATUS_TRANSITION_NOT_ALLOWED"
    assert refused.value.violations[0].subject == user.name
    assert refused.value.metadata["from"] == before


def test_a_user_that_is_brought_back_is_as_it_was_but_for_the_time() -> None:
    user, later = person(1, status=Status.ACTIVE), EPOCH + timedelta(days=1)
    assert user.deleted(later).delete_time == later
    assert user.deleted(later).undeleted(later) == replace(user, update_time=later)


@pytest.mark.parametrize("name", [field.name for field in fields(User)])
def test_the_etag_changes_with_every_field(name: str) -> None:
    other = User(
        id="usr2",
        email="b@example.com",
        display_name="B",
        create_time=EPOCH + timedelta(microseconds=1),
        update_time=EPOCH + timedelta(microseconds=1),
        given_name="G",
        family_name="F",
        job_title="J",
        avatar_uri="https://example.com/a.png",
        status=Status.ACTIVE,
        status_reason="R",
        email_verified=True,
        pending_email="c@example.com",
        delete_time=EPOCH,
    )
    user = person(0)
    assert replace(user, **{name: getattr(other, name)}).etag != user.etag
    assert replace(user).etag == user.etag


@pytest.mark.parametrize("resource", [person(1), *kept_for(person(1)), team(1)])
def test_a_change_decided_on_an_older_state_is_refused(resource: domain.Stored) -> None:
    domain.check_etag(resource, "")
    domain.check_etag(resource, resource.etag)
    with pytest.raises(Aborted) as refused:
        domain.check_etag(resource, '"older"')
    assert refused.value.reason == "ETAG_MISMATCH"
    assert refused.value.metadata == {"name": resource.name, "etag": resource.etag}


def test_what_has_its_new_values_already_does_not_change() -> None:
    user, later = person(1, job_title="Poet"), EPOCH + timedelta(days=1)
    assert domain.changed(user, {"job_title": "Poet"}, later) is user
    assert domain.changed(user, {"job_title": ""}, later) == replace(user, job_title="", update_time=later)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Ada", "ada"),
        ("ÅSA Ölander", "asa olander"),
        ("Straße", "strasse"),
        ("ﬁnance", "finance"),
        ("İstanbul", "istanbul"),
        ("Σίσυφος", "σισυφοσ"),
        ("김철수", "김철수"),
        ("", ""),
    ],
)
def test_texts_are_folded(text: str, folded: str) -> None:
    assert domain.folded(text) == folded
    assert domain.folded(folded) == folded


def test_a_name_that_folding_makes_longer_keeps_a_bounded_key() -> None:
    assert len(domain.display_key(person(1, "\ufdfa" * 200))) == 200


def test_addresses_are_compared_in_lower_case() -> None:
    assert domain.normal_email("Ada.Lovelace@Example.COM") == "ada.lovelace@example.com"
