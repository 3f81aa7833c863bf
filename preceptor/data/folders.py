"""Folders of images: one subfolder a class, with or without `train` and `test` above them."""

from dataclasses import replace
from pathlib import Path

import torch

from preceptor.data.encoded import Encoded
from preceptor.data.raw import RawData, RawSet
from preceptor.errors import DataError

_VALIDATION = ("val", "valid", "validation", "dev")
_UNLABELLED = ("unlabelled", "unlabeled")
_LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini")


def read_folder(root: Path) -> RawData:
    """The images under `root`, labelled by the name of their folder.

    Read are `root/CLASS/*`, or `root/train/CLASS/*` with `test` and `val` (or `validation`)
    beside it, and `root/unlabelled/*` for images without a label beside `train`. Classes are
    numbered in the alphabetical order of their names. Hidden files are passed over.
    """
    folders = {folder.name.lower(): folder for folder in _folders(root)}
    if "train" not in folders:
        return RawData(_classes(root, "train"), None, None, str(root))
    known = {"train", "test", *_VALIDATION, *_UNLABELLED}
    unknown = [folder.name for name, folder in folders.items() if name not in known]
    if unknown:
        raise DataError(
            f"the folder {root} holds {', '.join(unknown)} beside train",
            "beside train only test, val and unlabelled have a meaning",
            "Rename it, move it away, or move the classes into train.",
        )
    train = _classes(folders["train"], "train")
    for name in _UNLABELLED:
        if name in folders:
            train = _with_unlabelled(train, folders[name])
    validation = [_classes(folders[name], "validation") for name in _VALIDATION if name in folders]
    if len(validation) > 1:
        raise DataError(
            f"the folder {root} holds {len(validation)} validation sets",
            "choices are made on one",
            "Keep one of them.",
        )
    test = _classes(folders["test"], "test") if "test" in folders else None
    return RawData(train, validation[0] if validation else None, test, str(root))


def _classes(root: Path, name: str) -> RawSet:
    folders = _folders(root)
    loose = _files(root, nested=False)
    if not folders:
        raise DataError(
            f"the folder {root} has no subfolders",
            "images are labelled by the name of their folder",
            "Make one folder a class and put its images into it.",
        )
    if loose:
        raise DataError(
            f"{loose[0]} lies beside the class folders",
            "it has no class",
            "Move it into the folder of its class, or away.",
        )
    images: list[Encoded] = []
    labels: list[int] = []
    for index, folder in enumerate(folders):
        paths = _files(folder, nested=False)
        deeper = _folders(folder)
        if deeper:
            raise DataError(
                f"the class folder {folder} holds the folder {deeper[0].name}",
                "the images of a class lie directly in its folder; above classes only train,"
                " test, val and unlabelled are known",
                "Rename the folders, or move the images up.",
            )
        if not paths:
            raise DataError(
                f"the class folder {folder} is empty",
                "a class without images can be neither taught nor measured",
                "Put images into it, or remove it.",
            )
        images += [Encoded(str(path), path) for path in paths]
        labels += [index] * len(paths)
    names = tuple(folder.name for folder in folders)
    return RawSet(tuple(images), torch.tensor(labels), names, name)


def _with_unlabelled(train: RawSet, folder: Path) -> RawSet:
    images = tuple(Encoded(str(path), path) for path in _files(folder, nested=True))
    assert not isinstance(train.images, torch.Tensor)
    labels = torch.cat([train.labels, torch.full((len(images),), -1)])
    return replace(train, images=train.images + images, labels=labels)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")


def _files(root: Path, nested: bool) -> list[Path]:
    found = root.rglob("*") if nested else root.iterdir()
    return sorted(path for path in found if path.is_file() and not _passed_over(path))


def _passed_over(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _LEFT_BY_SYSTEMS
