"""What candidates and students may be called: their names are folders' names too."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from preceptor.recipe.problems import invalid

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*"


_DEVICE = "CON|PRN|AUX|NUL|(COM|LPT)[1-9]"
"""Names that Windows keeps for devices, whatever follows behind a dot."""


def require_apart(names: Iterable[str], path: tuple[str, ...]) -> None:
    """Raise `Invalid` where two names differ by capitals alone, which some systems overlook."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            why = f"{other} differs by capitals alone, and some systems keep one folder for both"
            raise invalid(f"the name {name!r}", why, "Rename one.", path)


def _folder_name(name: str) -> str:
    """The name, which is a folder's on every system; raises `Invalid`."""
    if re.fullmatch(_NAME, name) and not re.fullmatch(_DEVICE, name.partition(".")[0].upper()):
        return name
    fitting = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._-]+", "-", name)).strip("._-")
    why = (
        "it names a folder, and may have letters, digits, - and _, and single dots between them; "
        "it begins with a letter or a digit"
    )
    if fitting == name:
        why, fitting = "it names a folder, and Windows keeps it for a device", f"{name}-model"
    raise invalid(f"the name {name!r}", why, f"Write {fitting or 'another one'}.")


CandidateName = Annotated[
    str, AfterValidator(_folder_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME}$"})
]
"""What a candidate or a student is called, such as qwen2.5-7b."""
