"""How a recipe names teachers of language models: what a cache keeps, servers, a student's base."""

from typing import Literal

from pydantic import model_validator

from preceptor.data.endpoint import Endpoint
from preceptor.fields import Count, Index, Positive
from preceptor.recipe.problems import invalid
from preceptor.recipe.section import Section
from preceptor.teachers.tokens.codecs import AnyCodec, DenseCodec, SampledCodec, TopKCodec


class Keep(Section):
    """What a cache of a language model's answers keeps of each token.

    Args:
        top_k: so many of the largest probabilities, and the mass of the rest.
        sampled: so many draws, with the entropy: unbiased, for losses linear in the teacher.
        dense: every logit, in this precision: for small vocabularies.
        temperature: what top_k and sampled are taken at; they can be read at no other.
    """

    top_k: Count | None = None
    sampled: Count | None = None
    dense: Literal["float16", "bfloat16", "float32"] | None = None
    temperature: Positive = 1.0

    @model_validator(mode="after")
    def _one_kind(self) -> "Keep":
        if [self.top_k, self.sampled, self.dense].count(None) != 2:
            why = "names not exactly one of top_k, sampled and dense"
            raise invalid("", why, "Write {top_k: 50}, {sampled: 50} or {dense: float16}.")
        return self

    def codec(self) -> AnyCodec:
        """As the cache takes it."""
        if self.top_k is not None:
            return TopKCodec(self.top_k, self.temperature)
        if self.sampled is not None:
            return SampledCodec(self.sampled, self.temperature)
        assert self.dense is not None
        return DenseCodec(self.dense)


class ServedFields(Section):
    """A language model behind an OpenAI-compatible server.

    Args:
        url: the server's root, with the version: http://localhost:8000/v1.
        model: the name that the server knows it by.
        key: the environment variable that holds the key; the key itself is written nowhere.
        top_k: probabilities asked for at each token; vLLM gives 20 at most unless told otherwise.
        api: whose form of question and answer.
        at_once: calls in flight.
        timeout: seconds until an answer must be there.
        retries: how often a call is asked again.
        local: a folder or hub name with the same weights, which `check --deep` compares with what
            the server says; nothing else reads it.
    """

    url: str
    model: str
    key: str = ""
    top_k: Count = 20
    api: Literal["vllm", "sglang"] = "vllm"
    at_once: Count = 8
    timeout: Positive = 600.0
    retries: Index = 6
    local: str | None = None

    def endpoint(self) -> Endpoint:
        """As the client takes it."""
        return Endpoint(
            self.url,
            self.model,
            key_variable=self.key,
            concurrency=self.at_once,
            timeout=self.timeout,
            retries=self.retries,
        )


class ServedTeacher(Section):
    """A language model behind an OpenAI-compatible server."""

    served: ServedFields


class Nothing(Section):
    """No fields."""


class BaseTeacher(Section):
    """The student's own base, its adapters off: no second model in memory."""

    base: Nothing
