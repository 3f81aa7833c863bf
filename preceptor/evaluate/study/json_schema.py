"""The shape of study.json in words that other programs read: JSON Schema, draft 2020-12.

`python -m preceptor.evaluate.study.json_schema` prints it; `docs/study.schema.json` is what it
printed.
"""

import json
from typing import Any

from preceptor.evaluate.json_schema import schema_of
from preceptor.evaluate.study.study import SCHEMA, Study


def study_schema() -> dict[str, Any]:
    """The schema of a study."""
    return schema_of(Study, SCHEMA, "A finished study of Preceptor")


if __name__ == "__main__":
    print(json.dumps(study_schema(), indent=1))
