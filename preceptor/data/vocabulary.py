"""What two models' vocabularies share, id by id, whatever the rows of their heads.

A head is often padded to a round number of rows (151,936 and 152,064 over the same 151,669
tokens). Rows that stand for no shared token are set aside on both sides: they get no probability
and no gradient. Equal sizes prove nothing; ids are compared one by one and encodings are tried.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from preceptor.errors import ModelError, NeedsError
from preceptor.needs import Needs

PROBES = (
    "The quick brown fox jumps over 13 lazy dogs.",
    "  two spaces,\ttabs\n\nand blank lines  \n",
    "1234567890 + 42 = 1,234,567,932; 3.14159e-10",
    "def f(x):\n    return {'a': x[0], \"b\": x ** 2}  # it's O(n)",
    "naïve café, Straße, ŷ₁ ≈ ½ € 中文字符 日本語 한국어 हिन्दी عربى 🙂👩‍🔬",
    "HTTPServer_v2-beta isn't <b>bold</b> & you've seen it…",
)
"""Texts that two tokenisers of one vocabulary cut in the same places."""
_SHOWN = 4
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "cls_token", "mask_token")


@final
@dataclass(frozen=True)
class Vocabulary:
    """What a student and a teacher share.

    Args:
        classes: the ids 0 to classes - 1 mean the same on both sides: the rows of both heads that
            are classes, for `TappedModel(vocabulary=...)` and `Head.first`.
        student_rows, teacher_rows: of the two heads.
        renamed: special tokens that have another name on each side: id to (student's, teacher's).
        roles: special tokens whose place another one takes on the other side: the student's id of
            a role (end of sequence, say) to the teacher's, where they differ.
    """

    classes: int
    student_rows: int
    teacher_rows: int
    renamed: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    roles: Mapping[int, int] = field(default_factory=dict)

    @property
    def set_aside(self) -> tuple[int, int]:
        """Rows that get no probability: the student's, the teacher's."""
        return self.student_rows - self.classes, self.teacher_rows - self.classes

    def sentence(self) -> str:
        """One sentence to print.

        >>> Vocabulary(151_669, 151_936, 152_064).sentence()
        '151,669 ids shared; set aside: 267 of 151,936 student rows, 395 of 152,064 teacher rows'
        """
        student, teacher = self.set_aside
        words = (
            f"{self.classes:,} ids shared; set aside: {student:,} of {self.student_rows:,} "
            f"student rows, {teacher:,} of {self.teacher_rows:,} teacher rows"
        )
        if self.renamed:
            listed = ", ".join(f"{own} = {other}" for own, other in self.renamed.values())
            words += f"; {len(self.renamed)} special tokens have two names ({listed})"
        if self.roles:
            listed = ", ".join(f"{own} and {other}" for own, other in self.roles.items())
            words += f"; special tokens of one role have two ids ({listed})"
        return words


def shared_vocabulary(
    student: Any, teacher: Any, student_rows: int, teacher_rows: int
) -> Vocabulary:
    """What the tokenizers of a student and a teacher share, compared id by id.

    One may know more tokens than the other, after all shared ones; special tokens may have two
    names at one id. Encodings of a few texts must be equal.

    Args:
        student, teacher: fast tokenizers of transformers.
        student_rows, teacher_rows: of their models' heads.

    Raises:
        ModelError: an id means two things, or the tokenisers cut a text differently; the sentence
            names both sizes and a few ids. Also where a head has fewer rows than ids that are
            shared.
    """
    own, other = _by_id(student), _by_id(teacher)
    classes = min(max(own, default=-1), max(other, default=-1)) + 1
    special = _special_ids(student) & _special_ids(teacher)
    differ = [i for i in range(classes) if own.get(i) != other.get(i)]
    renamed = {i: (own[i], other[i]) for i in differ if i in special}
    if others := [i for i in differ if i not in renamed]:
        raise _two_vocabularies(own, other, _listed(others, own, other))
    for probe in PROBES:
        ours, theirs = _encoded(student, probe), _encoded(teacher, probe)
        if ours != theirs:
            raise _two_vocabularies(own, other, f"{probe[:24]!r} is {ours[:6]} and {theirs[:6]}")
    if min(student_rows, teacher_rows) < classes:
        raise ModelError(
            f"heads of {student_rows} and {teacher_rows} rows under {classes} shared ids",
            "every id that a tokenizer gives needs a row in the head",
            "Give each model its own tokenizer, or resize its embeddings.",
        )
    roles = {a: b for a, b in _roles(student, teacher).items() if a != b}
    return Vocabulary(classes, student_rows, teacher_rows, renamed, roles)


def require_shared(
    student: Any,
    teacher: Any,
    student_rows: int,
    teacher_rows: int,
    readers: Mapping[str, Needs],
) -> Vocabulary | None:
    """The shared vocabulary; None where there is none and no method asks for one.

    Args:
        student, teacher: fast tokenizers of transformers.
        student_rows, teacher_rows: of their models' heads.
        readers: what each method of the objective reads, by the method's name.

    Raises:
        NeedsError: the vocabularies differ and a method compares class by class, place by place.
        ModelError: a head has fewer rows than ids that are shared.
    """
    bound = [name for name, needs in readers.items() if needs.reads_teacher() and not needs.foreign]
    try:
        return shared_vocabulary(student, teacher, student_rows, teacher_rows)
    except _TwoVocabularies as different:
        if not bound:
            return None
        raise NeedsError(
            f"{', '.join(bound)} with {different.seen}",
            "it compares both models id by id at the same places",
            "Use a method for two tokenisers (uld, byte_chunks), or models of one vocabulary.",
        ) from different


def counterparts(
    student: Any, teacher: Any, pairs: Iterable[tuple[str, str]] = ()
) -> Mapping[int, int]:
    """Special tokens that mean the same in two tokenisers: the student's id to the teacher's.

    Those of one name, then those of one role (beginning, end, separator), then `pairs` of names.

    Raises:
        ModelError: a name in `pairs` is no token of its tokenizer.
    """
    own, other = student.get_vocab(), teacher.get_vocab()
    ours, theirs = _special_ids(student), _special_ids(teacher)
    found = {
        own[name]: other[name]
        for name in own.keys() & other.keys()
        if own[name] in ours and other[name] in theirs
    }
    found |= _roles(student, teacher)
    for name, its in pairs:
        for side, vocabulary, word in (("student", own, name), ("teacher", other, its)):
            if word not in vocabulary:
                raise ModelError(
                    f"{word!r} was named as the {side}'s special token",
                    f"its tokenizer has {len(vocabulary)} tokens, and that is none of them",
                    "Name tokens as the tokenizer's own vocabulary writes them.",
                )
        found[own[name]] = other[its]
    return found


class _TwoVocabularies(ModelError):
    """Two tokenisers that do not mean the same by an id."""


def _two_vocabularies(own: Mapping[int, str], other: Mapping[int, str], how: str) -> ModelError:
    return _TwoVocabularies(
        f"a student's vocabulary of {len(own):,} tokens and a teacher's of {len(other):,} ({how})",
        "an id must mean the same on both sides",
        "Use a method for two tokenisers (uld, byte_chunks), or models of one vocabulary.",
    )


def _listed(ids: list[int], own: Mapping[int, str], other: Mapping[int, str]) -> str:
    few = "; ".join(f"{i} is {own.get(i)!r} and {other.get(i)!r}" for i in ids[:_SHOWN])
    return f"{len(ids):,} ids differ: {few}"


def _by_id(tokenizer: Any) -> dict[int, str]:
    return {index: token for token, index in tokenizer.get_vocab().items()}


def _special_ids(tokenizer: Any) -> set[int]:
    added = tokenizer.added_tokens_decoder.items()
    return set(tokenizer.all_special_ids) | {i for i, token in added if token.special}


def _roles(student: Any, teacher: Any) -> dict[int, int]:
    pairs = [(getattr(student, f"{r}_id"), getattr(teacher, f"{r}_id")) for r in _ROLES]
    return {a: b for a, b in pairs if a is not None and b is not None}


def _encoded(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)
