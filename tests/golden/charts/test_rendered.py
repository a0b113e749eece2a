"""What a release is made of, as a person reviews it: the smallest one, and how others differ from it."""

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


def _text(rendered: list[helm.Object]) -> str:
    return yaml.safe_dump_all(rendered, sort_keys=False, width=120)
