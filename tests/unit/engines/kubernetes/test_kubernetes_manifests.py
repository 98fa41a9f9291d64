"""Objects of a cluster, compared whole and held against the schemas of every release.

`REWRITE_OBJECTS=1 pytest tests/unit/engines/kubernetes` writes the golden files anew.
"""

import json
import os
from pathlib import Path

import pytest
from sample_objects import SAMPLES

from support.engines.kubernetes_schemas import RELEASES, validate_object

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_objects_are_the_golden_ones(name: str) -> None:
    golden = GOLDEN / f"{name}.json"
    if os.environ.get("REWRITE_OBJECTS"):
        golden.write_text(json.dumps(SAMPLES[name], indent=2, ensure_ascii=False) + "\n")
    assert json.loads(golden.read_text()) == SAMPLES[name]


def test_every_golden_file_is_compared() -> None:
    assert {path.stem for path in GOLDEN.glob("*")} == set(SAMPLES)


@pytest.mark.parametrize("release", RELEASES)
def test_objects_satisfy_the_schema_of_each_release(release: str) -> None:
    for objects in SAMPLES.values():
        for found in objects:
            validate_object(found, release)


def test_schemas_refuse_an_unknown_field() -> None:
    claim = SAMPLES["volume"][0]
    with pytest.raises(AssertionError, match="surprise"):
        validate_object({**claim, "surprise": 1}, RELEASES[-1])
