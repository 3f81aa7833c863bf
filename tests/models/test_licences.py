from importlib.metadata import metadata
from typing import Any

import pytest

from preceptor.models.licences import stated_licence


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("license: apache-2.0\ntags: [a]", "apache-2.0"),
        ("license: other\nlicense_name: llama3.1", "llama3.1"),
        ("license: [mit, cc-by-4.0]", "mit, cc-by-4.0"),
    ],
)
def test_a_cards_front_matter_states_the_licence(front, said, tmp_path):
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# A model\n")
    assert stated_licence(str(tmp_path)) == (said, f"{tmp_path.name}/README.md")


def test_a_licences_own_text_is_named_by_its_first_line_also_of_a_file_beside_it(tmp_path):
    (tmp_path / "README.md").write_text("# no front matter\n")
    (tmp_path / "LICENSE").write_text("\n  MIT License\n\nCopyright\n")
    (tmp_path / "rows.jsonl").write_text("{}\n")
    expected = ("MIT License", f"{tmp_path.name}/LICENSE")
    assert stated_licence(str(tmp_path)) == expected
    assert stated_licence(str(tmp_path / "rows.jsonl")) == expected


@pytest.mark.parametrize(
    "text", ["---\nlicense: [\n---\n", "---\n- a\n---\n", "", "---\nx: 1\n---"]
)
def test_what_states_nothing_is_not_stated(text, tmp_path):
    (tmp_path / "README.md").write_text(text)
    assert stated_licence(str(tmp_path)) == ("", "")


def test_a_name_that_is_nowhere_here_states_nothing():
    assert stated_licence("nobody-at-all/no-such-model") == ("", "")
    assert stated_licence("package:no_such_package/model") == ("", "")


def test_an_installed_packages_metadata_states_the_licence():
    licence, where = stated_licence("package:torch/anything")
    told: Any = metadata("torch")
    assert licence
    assert licence in (told.get("License-Expression") or told.get("License"))
    assert where == "the package torch"
