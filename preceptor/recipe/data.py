"""How a recipe names its data: images, or text."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from preceptor.data.augment import Augment
from preceptor.data.row_parsing import Columns
from preceptor.data.verifiers import By
from preceptor.fields import Count, Index, OpenFraction
from preceptor.recipe.problems import invalid
from preceptor.recipe.section import Section


class Splits(Section):
    """One source for training and another for the final numbers.

    Args:
        train: a source as `Data` has it; validation is held out of it where it has none.
        test: a source, all of whose images are the test part.
    """

    train: str
    test: str


class Data(Section):
    """Which examples there are, which labels may be read, and what is held out.

    Args:
        kind: images, the only kind so far.
        source: "digits", "iris", "wine", "breast_cancer" or "diabetes", which scikit-learn
            bundles; a small reasoning task, such as "parity" (`preceptor.data.reasoning` has
            them all); a folder with one folder a class; a parquet or .npz file, a folder or
            pattern of parquet files; `owner/name` on the Hugging Face hub; or {train: ...,
            test: ...} with one of these each.
        image: a table's column of images.
        label: a table's column of labels.
        slices: a table's columns, or those of `groups`: the report shows each of their values
            apart.
        clusters: such a column by which test images belong together (a patient, a scene): they
            are drawn together, and intervals are as wide as they must be.
        groups: for a folder of images, a file of records with a column `image` of paths inside it
            and the columns that slices and clusters name.
        class_names: the order of the classes, where the alphabetical one is not the teacher's.
        labelled: how many training labels the student may read.
        unlabelled: how many further training images it may see without their labels.
        validation: the share of the training part held out for choices and early decisions,
            where the source has no validation part of its own.
        test: the share held out for the final numbers, where the source has no test part of its
            own.
        size: the side that images are resized to; where not given, their own.
        channels: 1 or 3; where not given, the images' own.
        augment: what is done to training images; nothing where not given.
        omit: classes that the student never sees in training, by index.
        limit: only so many training examples, for quick runs.
    """

    kind: Literal["images"] = "images"
    source: str | Splits
    image: str = "image"
    label: str = "label"
    slices: tuple[str, ...] = ()
    clusters: str | None = None
    groups: str | None = None
    class_names: tuple[str, ...] = ()
    labelled: Count | Literal["all"] = "all"
    unlabelled: Count | Literal["rest", "none"] = "none"
    validation: OpenFraction = 0.15
    test: OpenFraction = 0.2
    size: Count | None = None
    channels: Literal[1, 3] | None = None
    augment: Augment | None = None
    omit: tuple[Index, ...] = ()
    limit: Count | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> "Data":
        if self.labelled == "all" and self.unlabelled != "none":
            why = "no unlabelled image is left where every label may be read"
            raise invalid(
                repr(self.unlabelled), why, "Set `labelled` to a number.", ("unlabelled",)
            )
        return self


class Made(Section):
    """A tokenizer made on the spot from the training text.

    Args:
        characters: one token a character that occurs.
        bpe: byte pairs, so many tokens.
    """

    characters: bool = False
    bpe: Count | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Made":
        if self.characters == (self.bpe is not None):
            why = "names not exactly one of characters and bpe"
            raise invalid("", why, "Write {bpe: 512}, or {characters: true}.")
        return self


class Verify(Section):
    """How an answer that a model writes is held against a row's `answer`.

    Args:
        by: "exact" after blanks are removed; "numeric", the last number in the text; "regex", what
            `pattern` finds last; or "choice": nothing is written, and of all answers that the test
            part has (at most 20) the likeliest is chosen.
        pattern: of "regex": a regular expression whose first group is the answer.
        after: only what stands after the last of these marks counts; all of it where not given.
        most: tokens that may be written.
        batch: prompts that are answered together.
    """

    by: By = "exact"
    pattern: str | None = None
    after: str | None = None
    most: Count = 128
    batch: Count = 64


class TextData(Section):
    """Conversations, prompts with completions, or documents.

    Args:
        kind: text.
        source: "arithmetic" or "prose", which come with the package; a file of records (JSONL,
            JSON, parquet) or of plain text, a folder or pattern of these, `owner/name` on the
            Hugging Face hub (`owner/name:configuration@part` names more; the part is train, and
            test under `test`, where nothing is said); or {train: ..., test: ...} with one of these
            each.
        arguments: of "arithmetic" and "prose".
        columns: which columns hold prompt, completion, messages, text, answer, teacher_prompt.
        documents: what one document of plain text is.
        broken: whether rows that cannot be used stop the run, or are skipped, counted and listed.
        max_length: the most tokens that a model sees of a row; documents become windows of it.
        truncate: what is done with a longer conversation or prompt: refuse the row by name, cut
            its prompt from the left, or drop it, counted.
        tokenizer: a folder or a name on the hub, or one made here; where not given, the student
            model's own.
        system: a system turn for conversations that have none.
        plain: join prompt and completion as they are, also where there is a chat template.
        turns: whether all responses of a conversation are scored, or the last alone.
        variables: what the chat template reads by name, such as enable_thinking.
        packed: put several rows into one sequence, none of which sees another.
        bucket: steps whose rows are drawn together and sorted by length, so that a batch holds rows
            of like length and little padding; 1 sorts nothing.
        streamed: never hold the training rows: read them as they are needed, so many at a time,
            and shuffle among these. The source names train and test; `validation` is then a share
            of the latter.
        verify: how answers are judged; without it the verdict is about bits per byte.
        validation: the share of the training rows held out for choices.
        test: the share held out for the final numbers, where the source has no test part.
        limit: only so many training rows, for quick runs.
        test_limit: only so many test rows.
    """

    kind: Literal["text"]
    source: str | Splits
    arguments: dict[str, Any] = Field(default_factory=dict)
    columns: Columns = Columns()
    documents: Literal["file", "line", "paragraph"] | None = None
    broken: Literal["refuse", "skip"] = "refuse"
    max_length: Count = 256
    truncate: Literal["refuse", "left", "drop"] = "refuse"
    tokenizer: str | Made | None = None
    system: str | None = None
    plain: bool = False
    turns: Literal["all", "last"] = "all"
    variables: dict[str, Any] = Field(default_factory=dict)
    packed: bool = False
    bucket: Count = 1
    streamed: Count | None = None
    verify: Verify | None = None
    validation: OpenFraction = 0.1
    test: OpenFraction = 0.1
    limit: Count | None = None
    test_limit: Count | None = None

    @model_validator(mode="after")
    def _can_be_streamed(self) -> "TextData":
        if self.streamed is None:
            return self
        if not isinstance(self.source, Splits):
            why = "what is read as it comes cannot be divided into parts first"
            raise invalid("", why, "Write source: {train: ..., test: ...}.", ("streamed",))
        if isinstance(self.tokenizer, Made):
            why = "a tokenizer is made from the whole training text, which is never held"
            raise invalid("", why, "Name a tokenizer's folder, or leave it out.", ("streamed",))
        if self.bucket > 1:
            why = f"buckets of {self.bucket} steps sort rows that are all held"
            raise invalid("", why, "Use `packed`, which wastes as little.", ("streamed",))
        return self


class SentenceData(Section):
    """Neighbouring sentences of running text, for encoders.

    Args:
        kind: sentences.
        source: "prose", which comes with CPython; a file, folder or pattern of plain text or of
            records with a column of text, `owner/name` on the Hugging Face hub; or {train: ...,
            test: ...} with one of these each.
        columns: which column holds text.
        documents: what one document of plain text is; no document is split between parts.
        graded: a file of pairs that people graded (.csv, .jsonl, .json, .parquet with the columns
            sentence1, sentence2, score): how well similarities follow the grades. None of its
            sentences is trained on.
        max_length: the most tokens of a sentence; pairs with longer ones are left out, and counted.
        tokenizer: a folder, a name on the hub or package:NAME/FOLDER; where not given, that of the
            models, which must agree.
        validation: the share of the documents held out for choices.
        test: the share held out for the final numbers, where the source has no test part.
        limit: only so many training pairs, for quick runs.
        test_limit: only so many test pairs.
    """

    kind: Literal["sentences"]
    source: str | Splits = "prose"
    columns: Columns = Columns()
    documents: Literal["file", "line", "paragraph"] | None = None
    graded: str | None = None
    max_length: Count = 128
    tokenizer: str | None = None
    validation: OpenFraction = 0.1
    test: OpenFraction = 0.1
    limit: Count | None = None
    test_limit: Count | None = None


def _kind(value: Any) -> str:
    said = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return f"<{said}>" if said in ("text", "sentences") else "<images>"


AnyData = Annotated[
    Annotated[Data, Tag("<images>")]
    | Annotated[TextData, Tag("<text>")]
    | Annotated[SentenceData, Tag("<sentences>")],
    Discriminator(_kind),
]
"""Images unless `kind: text` or `kind: sentences` is said."""
