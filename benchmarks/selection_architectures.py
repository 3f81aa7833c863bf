"""Sketched gradients beside a plain pass for many architectures, each at a small size.

Two layers of width 256 and 16 texts of 128 tokens, or 64 images of 64x64 (5 of 224x224); fresh
weights, one thread, float32, paired rounds of processor time. Bounds are targets here: in models as
small as these, what is done for a layer besides its products weighs more than in use. The promised
ones are in `selection_features.py`.
"""

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from paired import Claim, conclude, paired, reported, table
from selection_features import MEMORY, TIME, flat, peak, plain
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
)

from preceptor.batches import Batch
from preceptor.models.tapped import TappedModel
from preceptor.selection.factored import FactoredSketcher

HEADS = ("student", "one at a time", "seconds", "plain", "ratio", "peak over plain's")
CLASSES, TOKENS, VOCABULARY = 10, 128, 4096
PIXELS = 64**3
"""Of a batch of images in all."""
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    **_IDS,
}
_CAUSAL = {**_TEXT, "num_key_value_heads": 4}
_SHARED = {**_CAUSAL, "moe_intermediate_size": 256, "n_shared_experts": 1}
_T5 = {"d_model": 256, "d_kv": 64, "d_ff": 512, "num_layers": 2, "num_heads": 4}
_LATENT = {"q_lora_rank": 64, "kv_lora_rank": 64, "qk_rope_head_dim": 32, "qk_nope_head_dim": 32}
_VIT = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "image_size": 64,
    "patch_size": 8,
}
_STAGES = {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]}
_WINDOWS = {"embed_dim": 48, "depths": [2, 2], "num_heads": [3, 6], "window_size": 4}

LANGUAGE: dict[str, dict[str, Any]] = {
    "llama": _CAUSAL,
    "qwen3": {**_CAUSAL, "head_dim": 64},
    "gemma2": {**_CAUSAL, "head_dim": 64},
    "olmo2": _CAUSAL,
    "phi": _CAUSAL,
    "gpt_neox": _CAUSAL,
    "mixtral": {**_CAUSAL, "num_local_experts": 8},
    "qwen3_moe": {**_SHARED, "head_dim": 64, "num_experts": 16, "num_experts_per_tok": 4},
    "olmoe": {**_CAUSAL, "num_experts": 16, "num_experts_per_tok": 4},
    "gpt_oss": {**_CAUSAL, "head_dim": 64, "num_local_experts": 8, "num_experts_per_tok": 2},
    "deepseek_v3": {
        **_SHARED,
        **_LATENT,
        "v_head_dim": 64,
        "n_routed_experts": 16,
        "num_experts_per_tok": 4,
        "first_k_dense_replace": 0,
        "n_group": 1,
        "topk_group": 1,
    },
    "llama4_text": {**_CAUSAL, "head_dim": 64, "num_local_experts": 4},
    "mamba2": {**_TEXT, "num_heads": 8, "head_dim": 64, "n_groups": 1, "state_size": 16},
    "rwkv": {**_TEXT, "attention_hidden_size": 256, "context_length": TOKENS},
}
ENCODERS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("bert", "roberta", "mpnet"), _TEXT),
    "modernbert": {**_TEXT, "cls_token_id": 1, "sep_token_id": 2},
    "deberta-v2": {**_TEXT, "relative_attention": True, "position_buckets": 64},
    "mt5": {"vocab_size": VOCABULARY, **_T5, **_IDS},
}
IMAGES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("vit", "dinov2"), _VIT),
    "beit": {**_VIT, "use_relative_position_bias": True},
    "swin": {"image_size": 64, "patch_size": 4, **_WINDOWS},
    "convnext": {**_STAGES, "hidden_sizes": [48, 96, 192, 384]},
    "resnet": {**_STAGES, "embedding_size": 32, "layer_type": "basic"},
    "regnet": {**_STAGES, "embedding_size": 32, "groups_width": 16},
    "mobilenet_v2": {"image_size": 64},
    "efficientnet": {"image_size": 64, "width_coefficient": 0.5, "hidden_dim": 640},
    "poolformer": {"hidden_sizes": [32, 64, 96, 128], "depths": [2, 2, 2, 2]},
    "segformer": {"depths": [1, 1, 1, 1]},
}
QUICK = ("llama", "mixtral", "mpnet", "swin")


@dataclass(frozen=True)
class Architecture:
    """A model of transformers' with fresh weights, and a batch for it.

    Args:
        name: of the configuration.
        told: what the configuration is told.
        build: the class that is made of it.
        pixels: of an image's side.
    """

    name: str
    told: dict[str, Any]
    build: Any
    pixels: int

    def model(self) -> TappedModel:
        """In eval mode."""
        torch.manual_seed(0)
        labels = {} if self.build is AutoModelForCausalLM else {"num_labels": CLASSES}
        size = {"image_size": self.pixels} if "image_size" in self.told else {}
        config = AutoConfig.for_model(self.name, **labels, **{**self.told, **size})
        causal = self.build is AutoModelForCausalLM
        return TappedModel(self.build.from_config(config), causal=causal).eval()

    def examples(self) -> Batch:
        """Noise with labels, or random ids."""
        draw = torch.Generator().manual_seed(1)
        if self.build is AutoModelForImageClassification:
            count = PIXELS // self.pixels**2
            pixels = torch.rand(count, 3, self.pixels, self.pixels, generator=draw)
            return Batch({"pixel_values": pixels}, labels=torch.arange(count) % CLASSES)
        ids = torch.randint(3, VOCABULARY, (16, TOKENS), generator=draw)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self.build is AutoModelForSequenceClassification:
            ids[:, -1] = _IDS["eos_token_id"]
            return Batch(inputs, labels=torch.arange(16) % CLASSES)
        labels = ids.roll(-1, 1)
        labels[:, -1], labels[:, : TOKENS // 4] = -1, -1
        return Batch(inputs, labels=labels, mask=labels >= 0, ids=torch.arange(16))


def compared(claims: list[Claim], each: Architecture, rounds: int) -> tuple[object, ...]:
    """Factored features beside the plain pass: a row."""
    model, batch = each.model(), each.examples()
    whole, sketcher = plain(model, batch), FactoredSketcher(model)
    whole()

    def once() -> object:
        model.zero_grad(set_to_none=True)  # Else the plain pass's gradients weigh on both.
        return sketcher(batch)

    once()
    found = paired(once, whole, rounds=rounds)
    model.zero_grad(set_to_none=True)
    most = peak(whole, "cpu")
    model.zero_grad(set_to_none=True)
    ratio, share = found.ratio("cpu"), peak(once, "cpu") / most
    for what, value, target in (("time", ratio, TIME), ("peak", flat(share), MEMORY)):
        is_met = value.value <= target
        claims.append(reported(f"{each.name}: {what} over a plain pass's", value, target, is_met))
    seconds = [f"{one:.2f}" for one in found.medians("cpu")]
    apart = str(len(sketcher.apart)) if sketcher.apart else "-"
    return each.name, apart, *seconds, ratio, f"{share:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four of them, three rounds")
    parser.add_argument("--pixels", type=int, default=64, help="of an image's side")
    parser.add_argument("names", nargs="*", help="only these")
    said = parser.parse_args()
    torch.set_num_threads(1)
    every = [
        Architecture(name, told, build, said.pixels)
        for known, build in (
            (LANGUAGE, AutoModelForCausalLM),
            (ENCODERS, AutoModelForSequenceClassification),
            (IMAGES, AutoModelForImageClassification),
        )
        for name, told in known.items()
    ]
    wanted = said.names or (QUICK if said.quick else [each.name for each in every])
    claims: list[Claim] = []
    rounds = 3 if said.quick else 7
    rows = [compared(claims, each, rounds) for each in every if each.name in wanted]
    print(table(HEADS, rows), flush=True)
    conclude(claims)


if __name__ == "__main__":
    main()
