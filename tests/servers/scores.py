"""A server that scores prompts with a model of transformers, in vLLM's form and in SGLang's."""

import threading
from typing import Any

import torch
from torch import Tensor

from tests.servers.serving import Reply, Request, Respond


def scoring(model: Any, *, cap: int = 20, with_own: bool = True, end: int | None = None) -> Respond:
    """vLLM's /v1/completions, with `prompt_logprobs` or writing, and SGLang's /generate.

    Args:
        model: takes `input_ids` and has `.logits`.
        cap: the most log-probabilities a token that may be asked for.
        with_own: vLLM's habit of telling the prompt's own token beside the largest.
        end: the token that ends what is written.
    """
    lock = threading.Lock()

    def log_probs(ids: list[int]) -> Tensor:
        with lock, torch.no_grad():
            return model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)

    def written(payload: dict[str, Any]) -> Reply:
        """The ids that were sampled, as vLLM tells them with `return_token_ids`."""
        assert payload["return_token_ids"]
        draw = torch.Generator().manual_seed(payload["seed"])
        ids, said = list(payload["prompt"]), []
        while len(said) < payload["max_tokens"] and end not in said:
            p = (log_probs(ids)[-1] / payload["temperature"]).softmax(-1)
            said.append(int(torch.multinomial(p, 1, generator=draw)))
            ids.append(said[-1])
        finish = "stop" if end in said else "length"
        choice = {"index": 0, "text": "x", "finish_reason": finish, "token_ids": said}
        return Reply.json({"object": "text_completion", "choices": [choice], "usage": {}})

    def vllm(payload: dict[str, Any]) -> Reply:
        if "prompt_logprobs" not in payload:
            return written(payload)
        ids, k = payload["prompt"], payload["prompt_logprobs"]
        if k > cap:
            said = f"Requested prompt logprobs of {k}, which is greater than max allowed: {cap}"
            return Reply.json({"error": {"message": said, "code": 400}}, 400)
        assert payload["max_tokens"] >= 1
        scores = log_probs(ids)
        told: list[dict[str, Any] | None] = [None]
        for before, own in zip(scores, ids[1:], strict=False):
            order = before.argsort(descending=True).tolist()
            some = order[:k] if own in order[:k] or not with_own else [own, *order[:k]]
            told.append(
                {
                    str(token): {
                        "logprob": max(before[token].item(), -9999.0),
                        "rank": order.index(token) + 1,
                        "decoded_token": f"<{token}>",
                    }
                    for token in some
                }
            )
        choice = {"index": 0, "text": "x", "finish_reason": "length", "prompt_logprobs": told}
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1}
        return Reply.json({"object": "text_completion", "choices": [choice], "usage": usage})

    def sglang(payload: dict[str, Any]) -> Reply:
        ids, k = payload["input_ids"], payload["top_logprobs_num"]
        assert payload["return_logprob"]
        assert payload["logprob_start_len"] == 0
        scores = log_probs(ids)
        own: list[Any] = [[None, ids[0], None]]
        top: list[Any] = [None]
        for before, token in zip(scores, ids[1:], strict=False):
            best = before.topk(k)
            own.append([before[token].item(), token, None])
            pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            top.append([[value, i, None] for value, i in pairs])
        meta = {"input_token_logprobs": own, "input_top_logprobs": top}
        return Reply.json({"text": "x", "meta_info": meta})

    def respond(request: Request) -> Reply:
        if request.path == "/v1/completions":
            return vllm(request.payload)
        if request.path == "/generate":
            return sglang(request.payload)
        return Reply(404)

    return respond
