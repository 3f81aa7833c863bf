"""What a model's or a data set's own folder says of its licence. No network is asked."""

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import yaml

_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md")
_NAME = re.compile(r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")
_MOST = 80


def stated_licence(source: str) -> tuple[str, str]:
    """A licence and where it is stated; two empty texts where none is.

    Args:
        source: a folder, a file in one, `package:NAME/FOLDER`, or a name on the hub, whose card
            is read where it lies in the local cache.
    """
    if source.startswith("package:"):
        return _of_package(source.removeprefix("package:").partition("/")[0])
    path = Path(source)
    if path.exists():
        return _of_folder(path if path.is_dir() else path.parent)
    name = source.partition("@")[0].partition(":")[0]
    return _of_hub(name) if _NAME.match(name) else ("", "")


def _of_folder(folder: Path) -> tuple[str, str]:
    """What the card says, or else how the licence's own text begins."""
    card = folder / "README.md"
    if card.is_file() and (said := _of_card(card)):
        return said, f"{folder.name}/README.md"
    for name in _FILES:
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
            first = next((line.strip() for line in lines if line.strip()), "")
            return (first[:_MOST], f"{folder.name}/{name}") if first else ("", "")
    return "", ""


def _of_card(card: Path) -> str:
    """`license` of a card's front matter; `license_name` where that is "other"."""
    text = card.read_text(encoding="utf-8", errors="replace")
    found = re.match(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", text, re.DOTALL)
    try:
        said = yaml.safe_load(found.group(1)) if found else None
    except yaml.YAMLError:
        return ""
    if not isinstance(said, dict):
        return ""
    licence = said.get("license") or ""
    if licence == "other":
        licence = said.get("license_name") or licence
    each = licence if isinstance(licence, list) else [licence]
    return ", ".join(str(one) for one in each)[:_MOST]


def _of_package(name: str) -> tuple[str, str]:
    try:
        told: Any = metadata(name)
    except PackageNotFoundError:
        return "", ""
    said = told.get("License-Expression") or told.get("License") or ""
    first = said.strip().partition("\n")[0][:_MOST]
    return (first, f"the package {name}") if first else ("", "")


def _of_hub(name: str) -> tuple[str, str]:
    from huggingface_hub import try_to_load_from_cache

    for kind in ("model", "dataset"):
        card = try_to_load_from_cache(name, "README.md", repo_type=kind)
        if isinstance(card, str) and (said := _of_card(Path(card))):
            return said, f"the card of {name}"
    return "", ""
