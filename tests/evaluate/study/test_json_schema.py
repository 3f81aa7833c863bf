"""The published schema is that of the studies that are written."""

import json
from pathlib import Path

import pytest

from preceptor.evaluate.study.json_schema import study_schema
from tests.evaluate.study.trials import flat, grid, judged

PUBLISHED = Path(__file__).parents[3] / "docs" / "study.schema.json"


def test_the_published_schema_is_up_to_date() -> None:
    assert json.loads(PUBLISHED.read_text()) == study_schema()


def test_a_study_keeps_to_the_schema_and_a_changed_one_does_not() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    plain = json.loads(judged(grid(flat, tasks=3)).to_json())
    jsonschema.validate(plain, study_schema())
    for change in ({"cells": "many"}, {"schema": "preceptor.study/0"}, {"other": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**plain, **change}, study_schema())
