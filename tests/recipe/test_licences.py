from pathlib import Path

from preceptor.evaluate.report import Licence
from preceptor.recipe.licences import licences_of
from preceptor.recipe.load import recipe_of
from tests.models.encoders import saved_folder
from tests.verbs.small import small
from tests.verbs.text import sums, written_recipe


def test_a_teacher_trained_here_is_under_the_datas_terms_and_bundled_data_has_its_own():
    found = licences_of(recipe_of(small()))
    assert found == (
        Licence("teacher", "mlp", "that of the data", "trained in this run"),
        Licence("data", "toy", "Apache-2.0", "made by preceptor"),
    )


def test_what_the_recipe_says_of_a_teacher_trained_here_is_told():
    said = {"teacher": "llama3.1 <b>", "data": "cc-by-sa-4.0", "student": "mit"}
    found = licences_of(recipe_of(small(licences=said)))
    assert [(each.of, each.licence) for each in found] == [*said.items()]
    assert {each.where for each in found} == {"the recipe"}
    nobody = licences_of(recipe_of(small(teacher={"nobody": {}}, licences=said)))
    assert nobody[0] == Licence("teacher", "nobody", "llama3.1 <b>", "the recipe")


def test_what_the_recipe_says_goes_before_what_a_folder_says(tmp_path: Path):
    said = {"teacher": "llama3.1", "data": "mine", "student": "apache-2.0"}
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    recipe = written_recipe(sums(tmp_path / "sums.jsonl"))
    teacher = {"model": {"causal": "owner/large"}}
    stated = licences_of(recipe_of({**recipe, "teacher": teacher, "licences": said}))
    source = str(tmp_path / "sums.jsonl")
    assert stated == (
        Licence("teacher", "owner/large", "llama3.1", "the recipe"),
        Licence("data", source, "mine", "the recipe"),
        Licence("student", "this model", "apache-2.0", "the recipe"),
    )
    found = licences_of(recipe_of({**recipe, "teacher": teacher}))
    assert found == (
        Licence("teacher", "owner/large", "", ""),
        Licence("data", source, "mit", f"{tmp_path.name}/README.md"),
    )


def test_every_member_every_stage_and_the_students_base_are_named_once(tmp_path: Path):
    base = saved_folder(tmp_path / "base")
    (base / "LICENSE").write_text("Apache License\n")
    one = {"model": {"zoo": "mlp"}, "load": str(tmp_path / "other")}
    two = {"ensemble": {"members": [one, {"model": {"zoo": "cnn-small"}, "train": {"steps": 1}}]}}
    stages = small()["stages"]
    said = small(teacher=two, stages=[stages[0], {**stages[0], "teacher": one}])
    found = licences_of(recipe_of(said))
    assert [each.source for each in found] == [str(tmp_path / "other"), "cnn-small", "toy"]
    student = {"model": {"encoder": str(base)}}
    sentences = {"kind": "sentences", "source": "prose"}
    found = licences_of(recipe_of(small(data=sentences, student=student, teacher={"nobody": {}})))
    assert [(each.of, each.licence) for each in found] == [
        ("data", "PSF-2.0"),
        ("student", "Apache License"),
    ]
