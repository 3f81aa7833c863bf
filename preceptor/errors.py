"""Every error the package raises on purpose.

    PreceptorError
    ├── UserError                what was asked cannot be done as asked (exit code 2)
    │   ├── RecipeError          an unknown key, a value out of range, parts that do not fit
    │   ├── DataError            a missing file, a broken image, labels that make no sense
    │   ├── ModelError           an unknown model, module or tap; another number of classes
    │   ├── NeedsError           an objective reads what its teacher, student or data cannot give
    │   └── ServerRefusal        a server answers that this request is not allowed, or not possible
    └── Failure                  the run was fine and something broke (exit code 1)
        ├── NonFiniteError       NaN or Inf in a loss or in the data
        ├── MemoryFailure        out of memory, and the micro-batch cannot be halved again
        ├── StorageError         a full disk, a truncated checkpoint, a corrupt cache
        ├── TeacherFailure       a teacher that moved, answers below zero, or knows less than chance
        └── ServerFailure        a server that cannot be reached, or answers what cannot be read

Each message has three parts: what was seen, why it cannot be, what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class PreceptorError(Exception):
    """Base of all; `seen`, `why` and `do` are kept apart so that a shell can lay them out."""

    exit_code = 1

    def __init__(self, seen: str, why: str, do: str) -> None:
        self.seen, self.why, self.do = seen, why, do
        end = "" if why.endswith("\n") else ". "  # A list of mistakes ends in a line of its own.
        super().__init__(f"{seen}: {why}{end}{do}")


class UserError(PreceptorError):
    """What was asked cannot be done as asked."""

    exit_code = 2


class RecipeError(UserError):
    """The recipe is not valid."""


class DataError(UserError):
    """The data is missing, broken or contradicts itself."""


class ModelError(UserError):
    """A model, module or tap is unknown or of the wrong shape."""


class NeedsError(UserError):
    """Somebody reads what nobody gives."""


class ServerRefusal(UserError):
    """A server refuses a request; `concerns_all` says that it would refuse every other one too."""

    def __init__(self, seen: str, why: str, do: str, *, concerns_all: bool = False) -> None:
        super().__init__(seen, why, do)
        self.concerns_all = concerns_all


class Failure(PreceptorError):
    """Something broke while running."""


class NonFiniteError(Failure):
    """NaN or Inf appeared."""


class MemoryFailure(Failure):
    """The memory does not suffice."""


class StorageError(Failure):
    """A file could not be written, or does not hold what it should."""


class TeacherFailure(Failure):
    """The teacher is not what it claims to be."""


class ServerFailure(Failure):
    """A server cannot be reached or read; `concerns_all`: nothing else need be asked of it."""

    def __init__(self, seen: str, why: str, do: str, *, concerns_all: bool = False) -> None:
        super().__init__(seen, why, do)
        self.concerns_all = concerns_all


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The names most like `name`, as words for a message.

    >>> nearest("temperatur", ["temperature", "alpha"])
    'temperature, alpha'
    >>> nearest("ALPHA", ["temperature", "alpha"], 1)
    'alpha'
    >>> nearest("xyz", [])
    'nothing'
    """
    names = {each.casefold(): each for each in sorted(set(known), reverse=True)}
    close = get_close_matches(name.casefold(), sorted(names), n=count, cutoff=0.0)
    return ", ".join(names[each] for each in close) if close else "nothing"
