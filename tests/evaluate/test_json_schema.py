"""The published schema is that of the reports that are written."""

import json
from pathlib import Path

import pytest

from preceptor.evaluate.json_schema import report_schema

PUBLISHED = Path(__file__).parents[2] / "docs" / "report.schema.json"


def test_the_published_schema_is_up_to_date():
    assert json.loads(PUBLISHED.read_text()) == report_schema()


def test_a_report_keeps_to_the_schema_and_a_changed_one_does_not(report):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    plain = json.loads(report.to_json())
    jsonschema.validate(plain, report_schema())
    for change in ({"items": "many"}, {"schema": "preceptor.report/0"}, {"other": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**plain, **change}, report_schema())
