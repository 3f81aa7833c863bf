"""What a model reads of a row, and which of it is scored."""

import pytest
from tokenizers import processors

from preceptor.data.chat import Rendering
from preceptor.data.rendered import Rendered
from preceptor.data.rows import Row
from preceptor.errors import DataError
from tests.data.tokens import CHATML, THINKING, ask, characters, chat, document, pieces, turns

END = "<|end|>"


def scored_text(rendering: Rendering, rendered: Rendered) -> str:
    return rendering.tokenizer.decode(rendered.ids[rendered.scored])


def test_every_assistant_turn_and_its_end_are_scored_and_nothing_else() -> None:
    rendering = Rendering(characters(), 200)
    rendered = rendering.render(chat("hi", "yo", "and?", "bye"))
    assert [rendering.tokenizer.decode(rendered.ids[s:e]) for s, e in rendered.spans] == [
        "yo" + END,
        "bye" + END,
    ]
    assert scored_text(rendering, rendered) == f"yo{END}bye{END}"
    assert rendering.tokenizer.decode(rendered.prompt).endswith("<|assistant|>\n")
    assert rendered.responses == ("yo", "bye")


def test_the_last_turn_alone_can_be_scored() -> None:
    rendering = Rendering(characters(), 200, turns="last")
    assert scored_text(rendering, rendering.render(chat("hi", "yo", "?", "bye"))) == f"bye{END}"


def test_outputs_of_tools_are_not_scored() -> None:
    roles = ("user", "assistant", "tool", "assistant")
    row = Row(0, "a:1", messages=turns("7*8?", "call", "56", "It is 56", roles=roles))
    rendering = Rendering(characters(), 200)
    assert scored_text(rendering, rendering.render(row)) == f"call{END}It is 56{END}"


def test_a_prompt_reads_as_when_the_model_is_to_write() -> None:
    for tokenizer in (characters(), pieces()):
        rendering = Rendering(tokenizer, 200, system="Be kind.")
        row = ask("hello there", "how are you?")
        written = tokenizer.apply_chat_template(
            [{"role": "system", "content": "Be kind."}, {"role": "user", "content": row.prompt}],
            add_generation_prompt=True,
            return_dict=False,
        )
        assert rendering.prompt(row).tolist() == written
        assert rendering.prompt(ask("hello there")).tolist() == written


@pytest.mark.parametrize("trimmed", [False, True])
def test_a_token_never_reaches_over_the_border_of_a_response(trimmed: bool) -> None:
    tokenizer = pieces(template=None)
    if trimmed:  # as Llama 3's: offsets leave a token's own blank out
        tokenizer.backend_tokenizer.post_processor = processors.Sequence(
            [processors.ByteLevel(trim_offsets=True), tokenizer.backend_tokenizer.post_processor]
        )
    joined = tokenizer("the answer is yes", add_special_tokens=False).input_ids
    row = ask("the answer is ", "yes")
    rendered = Rendering(tokenizer, 100).render(row)
    assert tokenizer.decode(rendered.response) == "yes" + END
    assert rendered.ids.tolist()[1:-1] != joined  # " yes" was one token
    assert rendered.prompt.tolist() == tokenizer("the answer is ").input_ids


def test_pad_may_be_the_end_and_the_end_is_scored_all_the_same() -> None:
    tokenizer = characters()
    tokenizer.pad_token = tokenizer.eos_token
    rendering = Rendering(tokenizer, 100)
    assert rendering.pad == rendering.end == tokenizer.eos_token_id
    rendered = rendering.render(ask("a", "b"))
    assert rendered.ids[rendered.scored][-1] == tokenizer.eos_token_id


def test_a_template_that_writes_another_end_is_believed() -> None:
    tokenizer = characters(CHATML.replace(END, "<|tool|>"))
    rendering = Rendering(tokenizer, 100)
    assert rendering.end == tokenizer.convert_tokens_to_ids("<|tool|>")
    assert scored_text(rendering, rendering.render(ask("a", "b"))) == "b<|tool|>"


def test_a_template_that_leaves_turns_open_is_ended_once() -> None:
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    template += "{% if add_generation_prompt %}[assistant]{% endif %}"
    rendering = Rendering(characters(template), 100)
    rendered = rendering.render(chat("a", "b", "c", "d"))
    assert scored_text(rendering, rendered) == "bd" + END
    bare = Rendering(characters(template), 100, add_eos=False)
    assert scored_text(bare, bare.render(chat("a", "b", "c", "d"))) == "bd"


def test_templates_that_drop_earlier_thinking_are_refused_in_words() -> None:
    rendering = Rendering(characters(THINKING), 200)
    with pytest.raises(DataError, match=r"chat.jsonl:1: before turn 2 .*turns: last"):
        rendering.render(chat("a", "b", "c", "d"))
    last = Rendering(characters(THINKING), 200, turns="last")
    assert scored_text(last, last.render(chat("a", "b", "c", "d"))) == f"<think></think>d{END}"


def test_an_empty_thought_that_the_template_writes_itself_is_no_response() -> None:
    rendering = Rendering(characters(THINKING), 200, variables={"enable_thinking": False})
    rendered = rendering.render(chat("a", "b"))
    assert rendered.responses == ("b",)


def test_documents_are_scored_but_for_their_first_token() -> None:
    rendering = Rendering(characters(), 100)
    rendered = rendering.render(document("abc"))
    assert rendering.tokenizer.decode(rendered.ids) == "<|begin|>abc" + END
    assert rendered.scored.tolist() == [False, True, True, True, True]
    assert rendered.bytes == 3


def test_windows_of_a_document_score_every_token_once() -> None:
    rendering = Rendering(pieces(), 10)
    text = "the answer is héllo there, 你好 and three " * 3
    whole = rendering.render(document(text))
    windows = rendering.pieces(document(text))
    assert all(len(window) <= 10 for window in windows)
    targets = [i for window in windows for i in window.ids[window.scored].tolist()]
    assert targets == whole.ids[1:].tolist()
    assert sum(window.bytes for window in windows) == whole.bytes == len(text.encode())


def test_rows_longer_than_the_context_are_refused_by_name_cut_or_dropped() -> None:
    row = ask("a" * 50, "yes")
    with pytest.raises(DataError, match=r"ask.jsonl:1 has 60 tokens.*context holds 20"):
        Rendering(characters(), 20).pieces(row)
    assert Rendering(characters(), 20, truncate="drop").pieces(row) == []
    rendering = Rendering(characters(), 20, truncate="left")
    (cut,) = rendering.pieces(row)
    assert len(cut) == 20
    assert scored_text(rendering, cut) == "yes" + END
    with pytest.raises(DataError, match="the response"):
        rendering.pieces(ask("a", "b" * 50))


def test_a_cut_leaves_no_response_that_lost_its_beginning() -> None:
    rendering = Rendering(characters(), 30, truncate="left")
    (cut,) = rendering.pieces(chat("a", "b" * 20, "c", "d"))
    assert scored_text(rendering, cut) == "d" + END


def test_plain_prompts_are_joined_as_they_are() -> None:
    rendering = Rendering(characters(), 100, plain=True)
    rendered = rendering.render(ask("1+1=", "2"))
    assert rendering.tokenizer.decode(rendered.ids) == "<|begin|>1+1=2" + END
    assert scored_text(rendering, rendered) == "2" + END
    with pytest.raises(DataError, match="Leave `plain` out"):
        rendering.render(chat("a", "b"))


def test_characters_without_a_token_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"ask.jsonl:1 holds 'ü'"):
        Rendering(characters(), 100).render(ask("für", "x"))


def test_what_a_template_does_not_take_is_refused_by_name() -> None:
    template = "{{ raise_exception('roles must take turns') }}"
    with pytest.raises(DataError, match=r"chat.jsonl:1 .* roles must take turns"):
        Rendering(characters(template), 100).render(chat("a", "b"))
