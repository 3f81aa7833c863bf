import json
from dataclasses import FrozenInstanceError

import pytest

from preceptor.errors import DataError, StorageError
from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.report import Report


def test_json_gives_back_an_equal_report(report, fake):
    assert Report.from_json(report.to_json()) == report
    bare = build_report(fake(seeds=1, items=9, teacher=None, timing=None))
    assert Report.from_json(bare.to_json()) == bare


def test_json_names_its_schema_and_is_strict(report):
    plain = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert plain["schema"] == "preceptor.report/3"
    assert set(plain["arms"][0]["measures"]["accuracy"]) == {"estimate", "low", "high", "n", "unit"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "preceptor.report/2"}, "the version that wrote it"),
        ({"items": "many"}, "of another type"),
        ({"surprise": 1}, "of another type"),
        ({"gap": {"estimate": 1}}, "of another type"),
    ],
)
def test_what_is_no_report_gets_a_sentence(report, change, words):
    with pytest.raises(StorageError, match=words):
        Report.from_json(json.dumps(json.loads(report.to_json()) | change))


def test_a_truncated_report_is_told_from_a_whole_one(report):
    with pytest.raises(StorageError, match="breaks off"):
        Report.from_json(report.to_json()[:1000])
    with pytest.raises(StorageError, match="schema is None"):
        Report.from_json("[]")


def test_a_report_is_frozen_and_knows_its_arms(report):
    with pytest.raises(FrozenInstanceError):
        report.name = "other"
    with pytest.raises(DataError, match="Nearest: control"):
        report.arm("controls")
    assert report.difference("control", "distilled") is None
