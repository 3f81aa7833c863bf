"""Runs what the documentation shows, in its order; `make check` calls it.

    .venv/bin/python tests/readme_commands.py [PAGE ...]

Each page gets an empty folder. What holds in every page:

- A block below a comment `<!-- file: NAME -->` is saved under that name.
- Every other ```sh block is run line by line, every other ```python block as a script, and each
  must end well. Every ```yaml block must be a recipe, or a part of one. Blocks of other languages
  (```py, ```yml) are for reading.
- Lines that set a machine up (`SET_UP`) are left out: whoever reads on has them behind him, as
  this script has.
- Runs take their quick form: `QUICK` says what is changed, and nothing else is.

Then the headings of `docs/troubleshooting.md` are looked for in the package's own messages, and
every link between pages must lead somewhere.
"""

import ast
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from preceptor.data.toy import toy_images
from preceptor.errors import PreceptorError
from preceptor.recipe.load import recipe_of
from preceptor.recipe.text import from_yaml

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/tutorial.md",
    "docs/language-models.md",
    "docs/ranking.md",
    "docs/starting.md",
    "docs/studying.md",
    "docs/exporting.md",
    "docs/from-trl-and-distillkit.md",
    "docs/all-of-preceptor.md",
)
TROUBLES = ROOT / "docs" / "troubleshooting.md"

SET_UP = re.compile(r"(?:make|git|pip|python3? -m venv) |\. ")
"""Commands that are not run."""

QUICK = (
    "seed.count=2",
    "stages.0.plan.steps=20",
    "stages.0.plan.batch=16",
    "teacher.train.steps=60",
    "teacher.train.batch=16",
)
"""What every run is shortened by: two seeds, few and small steps."""

BLOCK = re.compile(
    r"(?:^<!-- file: (?P<file>\S+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the file it is saved as; empty where it is run."""

    language: str
    text: str
    file: str


def blocks(page: str) -> Iterator[Block]:
    for found in BLOCK.finditer(page):
        yield Block(found["language"], found["text"], found["file"] or "")


def quick_command(line: str) -> str:
    """A shell line, its run shortened.

    >>> quick_command("preceptor distill digits --out runs/a").count("--set")
    5
    """
    settings = " ".join(f"--set {setting}" for setting in QUICK)
    return re.sub(r"\bpreceptor (distill|cache|init) (\S+)", rf"\g<0> {settings}", line)


def quick_script(text: str) -> str:
    """A Python block, its run shortened."""
    return re.sub(r"load_recipe\((\"[^\"]+\")\)", rf"load_recipe(\1, {list(QUICK)})", text)


def commands(page: str, folder: Path) -> Iterator[list[str]]:
    """A page's commands in order; files are written when their turn comes."""
    for block in blocks(page):
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "python":
            yield [sys.executable, "-c", quick_script(block.text)]
        elif block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                bare = line.partition("  #")[0].strip()
                if bare and not bare.startswith("#") and not SET_UP.match(bare):
                    yield ["bash", "-euo", "pipefail", "-c", quick_command(bare)]


def wrong_recipes(name: str) -> list[str]:
    """A page's recipes, and parts of recipes, that the schema refuses."""
    wrong: list[str] = []
    for block in blocks((ROOT / name).read_text()):
        if block.language == "yaml":
            try:
                recipe_of(_whole(from_yaml(block.text, name)))
            except PreceptorError as error:
                wrong.append(f"{name}: {error}\n{block.text}")
    return wrong


def _whole(said: dict[str, Any]) -> dict[str, Any]:
    """A part of a recipe with the rest around it."""
    stage = {"objective": [{"kd": {"temperature": 1}}], "plan": {"steps": 1}}
    inside = {key: value for key, value in said.items() if key in ("objective", "rollouts")}
    outside = {key: value for key, value in said.items() if key not in inside}
    return {
        "data": {"kind": "text", "source": "rows.jsonl"},
        "teacher": {"model": {"causal": "owner/large"}},
        "student": {"model": {"causal": "owner/small"}},
        "stages": [stage | inside],
        **outside,
    }


def photos(folder: Path) -> None:
    """The folder of images that a reader of the README has: three classes."""
    images = toy_images()
    assert isinstance(images.pixels, Tensor)
    for number, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        path = folder / "photos" / images.class_names[int(label)] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(path)


def run_page(name: str) -> list[str]:
    """Runs one page; gives a sentence for what failed, after which nothing more of it is run."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # Several threads of small models wait for one another where the machine has other work.
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if name == "README.md":
            photos(folder)
        for command in commands((ROOT / name).read_text(), folder):
            started = time.perf_counter()
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            shown = command[-1].strip().replace("\n", "\n    ")
            print(f"{name}: {time.perf_counter() - started:5.1f} s: {shown.splitlines()[0]}")
            if done.returncode:
                said = done.stdout[-2000:] + done.stderr[-2000:]
                return [f"{name}: this ends with {done.returncode}:\n    {shown}\n{said}"]
    return []


def unknown_messages() -> list[str]:
    """Headings of the page of troubles that quote a message which the package does not have."""
    texts: list[str] = []
    for path in (ROOT / "preceptor").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value for p in node.values if isinstance(p, ast.Constant))
                texts.append("…".join(str(part) for part in parts))
    quoted = re.findall(r"^#+ .*$", TROUBLES.read_text(), re.MULTILINE)
    messages = [text for heading in quoted for text in re.findall(r"`([^`]+)`", heading)]
    return [
        f"docs/troubleshooting.md: no message of the package says: {message}"
        for message in messages
        if not any(message in text for text in texts)
    ]


def dead_links() -> list[str]:
    """Links of pages to files that are not there."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    return [
        f"{page.relative_to(ROOT)}: the link {link} leads nowhere"
        for page in pages
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / link).exists()
    ]


def main() -> int:
    started = time.perf_counter()
    wrong = [*unknown_messages(), *dead_links()]
    for name in sys.argv[1:] or PAGES:
        wrong += wrong_recipes(name) or run_page(name)
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    print(f"{'failed' if wrong else 'all well'}, {time.perf_counter() - started:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
