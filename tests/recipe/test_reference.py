"""The page of methods, written from the methods."""

from pathlib import Path

from preceptor.recipe.methods import method_names
from preceptor.recipe.reference import reference, section
from preceptor.testing import objective_cases


def test_every_method_has_its_part() -> None:
    page = reference()
    for name in method_names():
        assert f"\n## {name}\n" in page


def test_a_part_holds_class_fields_ranges_defaults_needs_and_paper() -> None:
    part = section("kd", objective_cases()["kd"])
    assert "preceptor.KD" in part
    assert "arXiv:1503.02531" in part
    assert "| `temperature` | `4` | number > 0 | T; 4 is the CIFAR literature's" in part
    assert "Reads the teacher's probabilities" in part


def test_every_field_of_every_method_says_what_it_means() -> None:
    for name, case in objective_cases().items():
        for line in section(name, case).splitlines():
            if line.startswith("| `"):
                assert not line.endswith("|  |"), f"{name}: {line}"


def test_the_page_of_methods_is_the_generated_one() -> None:
    page = Path(__file__).parents[2] / "docs" / "methods.md"
    assert page.read_text() == reference(), (
        "run python -m preceptor.recipe.reference > docs/methods.md"
    )
