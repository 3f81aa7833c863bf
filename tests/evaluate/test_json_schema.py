"""The published schemas are those of the reports and comparisons that are written."""

import json
from pathlib import Path

import pytest

from preceptor.evaluate.compare import compare
from preceptor.evaluate.items import items_of
from preceptor.evaluate.json_schema import comparison_schema, report_schema

PUBLISHED = Path(__file__).parents[2] / "docs"


def test_the_published_schemas_are_up_to_date():
    for name, schema in (("report", report_schema()), ("comparison", comparison_schema())):
        assert json.loads((PUBLISHED / f"{name}.schema.json").read_text()) == schema


def test_a_report_keeps_to_the_schema_and_a_changed_one_does_not(report):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    plain = json.loads(report.to_json())
    jsonschema.validate(plain, report_schema())
    for change in ({"items": "many"}, {"schema": "preceptor.report/0"}, {"other": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**plain, **change}, report_schema())


def test_a_comparison_keeps_to_its_schema_and_a_changed_one_does_not(report, result):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    items = items_of(result)
    found = compare({"a": report, "b": report}, {"a": items, "b": items})
    plain = json.loads(found.to_json())
    assert plain["differences"]
    jsonschema.validate(plain, comparison_schema())
    for change in ({"rows": "many"}, {"schema": "preceptor.comparison/0"}, {"other": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**plain, **change}, comparison_schema())
