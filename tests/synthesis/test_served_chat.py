"""Text from `transformers serve`, a real server of a tiny chat model, by a proxy that breaks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoTokenizer

from preceptor.data.chat import Rendering
from preceptor.data.client import Client
from preceptor.data.endpoint import Endpoint
from preceptor.data.reading import read_rows
from preceptor.data.rows import Row
from preceptor.data.text import TextSet
from preceptor.errors import NeedsError, ServerRefusal
from preceptor.models.sampling import Sampling
from preceptor.synthesis.served_text import Voice, collect
from preceptor.teachers.served import Served
from preceptor.types import Batch
from tests.servers.chat_model import write_chat_model
from tests.servers.faults import breaking
from tests.servers.serving import serving
from tests.servers.transformers_serve import served_by_transformers

VOICE = Voice(Sampling(max_new=6, temperature=0))
COUNT = 16


class Chat(NamedTuple):
    """A running server and the folder of its model."""

    root: str
    folder: Path

    def endpoint(self, root: str = "", **changed: Any) -> Endpoint:
        return Endpoint(f"{root or self.root}/v1", str(self.folder), **changed)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    folder = tmp_path_factory.mktemp("served") / "model"
    write_chat_model(folder)
    with served_by_transformers(folder) as root:
        yield Chat(root, folder)


def rows(count: int = COUNT) -> list[Row]:
    return [Row(n, f"prompts.jsonl:{n + 1}", prompt=f"Tell me of {n}.") for n in range(count)]


def texts(folder: Path) -> dict[str | None, str | None]:
    return {row.prompt: row.completion for row in read_rows(str(folder / "data.jsonl"))}


def test_a_real_servers_text_becomes_a_data_set(chat: Chat, tmp_path: Path) -> None:
    with Client(chat.endpoint()) as client:
        found = collect(client, rows(), tmp_path, VOICE, filters={})
        usage = client.usage
    assert (found.new, found.failed) == (COUNT, {})
    assert found.counts["kept"] + found.counts["empty"] == COUNT
    assert usage.prompt_tokens > COUNT
    assert 0 < usage.completion_tokens <= 6 * COUNT
    data = read_rows(str(found.data))
    tokenizer = AutoTokenizer.from_pretrained(chat.folder)
    batch = TextSet(data.rows, Rendering(tokenizer, 256)).batch([0, 1])
    assert bool(batch.mask("all").any(dim=1).all())


def test_whatever_breaks_on_the_way_each_prompt_is_answered_once(
    chat: Chat, tmp_path: Path
) -> None:
    with Client(chat.endpoint()) as client:
        collect(client, rows(), tmp_path / "straight", VOICE, filters={})
    faults = breaking(chat.root, seed=0, each=2, late=2.5)
    with serving(faults) as proxy:
        where = chat.endpoint(proxy.root, timeout=1.5, retries=12, first_wait=0.05, concurrency=4)
        with Client(where) as client:
            found = collect(client, rows(), tmp_path / "broken", VOICE, filters={})
            assert client.usage.calls == COUNT
            assert client.usage.stumbles >= 12
    assert (found.new, found.failed) == (COUNT, {})
    answers = (tmp_path / "broken" / "answers-0.jsonl").read_text().splitlines()
    assert len(answers) == 1 + COUNT
    assert texts(tmp_path / "broken") == texts(tmp_path / "straight")


def test_a_model_that_it_does_not_serve_ends_it_at_once(chat: Chat, tmp_path: Path) -> None:
    with (
        Client(Endpoint(f"{chat.root}/v1", "some/other")) as client,
        pytest.raises(ServerRefusal, match=r"Check that `model` \(some/other\)"),
    ):
        collect(client, rows(), tmp_path, VOICE)


def test_it_gives_no_log_probabilities_and_that_is_said(chat: Chat) -> None:
    ids = torch.arange(5, 11)[None]
    labels = torch.cat([ids[:, 1:], torch.tensor([[-1]])], dim=1)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    batch = Batch(inputs, labels=labels, mask=labels >= 0)
    with (
        Client(chat.endpoint(retries=0)) as client,
        pytest.raises(NeedsError, match=r"prompt_logprobs.*Use a vLLM server"),
    ):
        Served(client, 261, 5).signal(batch)
