"""The card in each student's folder of a finished run."""

import json
from collections.abc import Sequence
from pathlib import Path

from preceptor.data.tokenizers import load_tokenizer
from preceptor.evaluate.card import About, model_card
from preceptor.evaluate.report import Report
from preceptor.files import write_text
from preceptor.recipe.data import Data, SentenceData, Splits
from preceptor.recipe.licences import called
from preceptor.recipe.mix import written
from preceptor.recipe.schema import Recipe
from preceptor.recipe.teachers import kind_of
from preceptor.verbs.cells import Cell, student_folder

CARD = "README.md"
_HERE = "path/to/this/folder"


def write_cards(recipe: Recipe, report: Report, cells: Sequence[Cell]) -> tuple[Path, ...]:
    """Write README.md beside each seed's student; where they lie."""
    found: list[Path] = []
    for cell in cells:
        folder = student_folder(cell)
        write_text(folder / CARD, model_card(report, about(recipe, report, folder, cell.seed)))
        found.append(folder / CARD)
    return tuple(found)


def about(recipe: Recipe, report: Report, folder: Path, seed: int) -> About:
    """What the recipe and the folder say of a student."""
    task, library, use = _kind(recipe, folder)
    teachers = [each.source for each in report.licences if each.of == "teacher"]
    source = recipe.data.source
    data = f"{source.train} and {source.test}" if isinstance(source, Splits) else source
    return About(
        task=task,
        library=library,
        student=called(recipe.student.model),
        teachers=tuple(teachers) or (kind_of(recipe.teacher),),
        data=data,
        methods=tuple(
            f"{stage.plan.steps or stage.plan.epochs} {'steps' if stage.plan.steps else 'epochs'} "
            f"of {json.dumps(written(stage.objective))}"
            for stage in recipe.stages
        ),
        use=use,
        seed=seed,
    )


def _kind(recipe: Recipe, folder: Path) -> tuple[str, str, str]:
    """The hub's names of the task and of the library that loads the folder, and how."""
    if isinstance(recipe.data, Data):
        library = "transformers" if (folder / "config.json").is_file() else ""
        use = (
            "from preceptor import load\n\n"
            f'model = load("{_HERE}")\n'
            "logits = model(pixels).logits  # pixels: [B, C, H, W] in [0, 1]"
        )
        return "image-classification", library, use
    if isinstance(recipe.data, SentenceData):
        use = (
            "from sentence_transformers import SentenceTransformer\n\n"
            f'embeddings = SentenceTransformer("{_HERE}").encode(["a sentence"])'
        )
        return "sentence-similarity", "sentence-transformers", use
    use = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{_HERE}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{_HERE}")'
    )
    if recipe.data.plain and getattr(load_tokenizer(folder), "chat_template", None):
        use += (
            "\n# It learned prompts as they are: give it text to go on from. The chat template\n"
            "# beside it took no part, so a chat does not ask what the report measured."
        )
    return "text-generation", "transformers", use
