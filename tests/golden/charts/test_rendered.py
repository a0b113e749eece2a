"""What a release is made of, as a person reviews it: the smallest one, and how others differ from it."""

from pathlib import Path

import pytest
import yaml

from tests import helm
from tests.golden.conftest import Golden


def test_the_release_without_values(golden: Golden) -> None:
    golden("default.yaml", _text(helm.objects()))


@pytest.mark.parametrize("name", [name for name in helm.CONFIGURATIONS if name != "default"])
def test_other_releases(golden: Golden, name: str) -> None:
    default = helm.objects()
    golden(f"{name}.yaml", _text([each for each in helm.objects(helm.CONFIGURATIONS[name]) if each not in default]))


@pytest.mark.parametrize("name", helm.CONFIGURATIONS)
def test_what_helm_says_after_an_installation(golden: Golden, name: str, tmp_path: Path) -> None:
    golden(f"{name}.txt", helm.notes(helm.CONFIGURATIONS[name], tmp_path))


def _text(rendered: list[helm.Object]) -> str:
    return yaml.safe_dump_all(rendered, sort_keys=False, width=120)
