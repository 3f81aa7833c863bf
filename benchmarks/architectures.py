"""Architectures of transformers' with fresh weights, small or as wide as a published model.

Small: two layers of width 256, or a few narrow stages. Published: the widths of the smallest models
that people use, two layers of text (4 of a vision transformer), a vocabulary of 4,096.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
)

from preceptor.batches import Batch
from preceptor.models.tapped import TappedModel

CLASSES, TOKENS, VOCABULARY = 10, 128, 4096
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    **_IDS,
}
_CAUSAL = {**_TEXT, "num_key_value_heads": 4}
_SHARED = {**_CAUSAL, "moe_intermediate_size": 256, "n_shared_experts": 1}
_T5 = {"d_model": 256, "d_kv": 64, "d_ff": 512, "num_layers": 2, "num_heads": 4}
_LATENT = {"q_lora_rank": 64, "kv_lora_rank": 64, "qk_rope_head_dim": 32, "qk_nope_head_dim": 32}
_RELATIVE = {
    "relative_attention": True,
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
}
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


def _wide(width: int, inner: int, heads: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": heads}
    return {**_TEXT, **sizes, **more}


@dataclass(frozen=True)
class Architecture:
    """A model, and a batch for it.

    Args:
        label: what it is called here.
        name: of the configuration.
        told: what the configuration is told.
        build: the class that is made of it.
        examples: of a batch; of images of 64 pixels.
        pixels: of an image's side; 0 for text.
    """

    label: str
    name: str
    told: dict[str, Any]
    build: Any
    examples: int
    pixels: int = 0

    def model(self) -> TappedModel:
        """In eval mode."""
        torch.manual_seed(0)
        causal = self.build is AutoModelForCausalLM
        labels = {} if causal else {"num_labels": CLASSES}
        size = {"image_size": self.pixels} if "image_size" in self.told else {}
        config = AutoConfig.for_model(self.name, **labels, **{**self.told, **size})
        model = TappedModel(self.build.from_config(config), causal=causal)
        _settle(model, self.batch())
        return model.eval()

    def batch(self) -> Batch:
        """Noise with labels, or random ids."""
        draw, count = torch.Generator().manual_seed(1), self.examples
        if self.pixels:
            pixels = torch.rand(count, 3, self.pixels, self.pixels, generator=draw)
            return Batch({"pixel_values": pixels}, labels=torch.arange(count) % CLASSES)
        ids = torch.randint(3, VOCABULARY, (count, TOKENS), generator=draw)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self.build is AutoModelForSequenceClassification:
            ids[:, -1] = _IDS["eos_token_id"]
            return Batch(inputs, labels=torch.arange(count) % CLASSES)
        labels = ids.roll(-1, 1)
        labels[:, -1], labels[:, : TOKENS // 4] = -1, -1
        return Batch(inputs, labels=labels, mask=labels >= 0, ids=torch.arange(count))

    def of_pixels(self, pixels: int) -> "Architecture":
        """The same of images of another size, as many pixels in all; text as it is."""
        if not self.pixels:
            return self
        count = max(1, self.examples * self.pixels**2 // pixels**2)
        return replace(self, examples=count, pixels=pixels)


@torch.no_grad()
def _settle(model: TappedModel, batch: Batch) -> None:
    """Give batch norms weights of 1 and the statistics of a batch, as after some training.

    With fresh ones signals fade from layer to layer, to numbers that a processor is slow with.
    """
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    held = [part.momentum for part in norms]
    for part in norms:
        part.reset_parameters()
        part.momentum = 1.0
    if norms:
        model.train()(batch.inputs)
    for part, momentum in zip(norms, held, strict=True):
        part.momentum = momentum


def _language(name: str, told: dict[str, Any]) -> Architecture:
    return Architecture(name, name, told, AutoModelForCausalLM, 16)


def _encoder(name: str, told: dict[str, Any]) -> Architecture:
    return Architecture(name, name, told, AutoModelForSequenceClassification, 16)


def _images(name: str, told: dict[str, Any]) -> Architecture:
    return Architecture(name, name, told, AutoModelForImageClassification, 64, 64)


SMALL: Sequence[Architecture] = (
    _language("llama", _CAUSAL),
    _language("qwen3", {**_CAUSAL, "head_dim": 64}),
    _language("gemma2", {**_CAUSAL, "head_dim": 64}),
    _language("olmo2", _CAUSAL),
    _language("phi", _CAUSAL),
    _language("gpt_neox", _CAUSAL),
    _language("diffllama", _CAUSAL),
    _language("mixtral", {**_CAUSAL, "num_local_experts": 8}),
    _language(
        "qwen3_moe", {**_SHARED, "head_dim": 64, "num_experts": 16, "num_experts_per_tok": 4}
    ),
    _language("olmoe", {**_CAUSAL, "num_experts": 16, "num_experts_per_tok": 4}),
    _language(
        "gpt_oss", {**_CAUSAL, "head_dim": 64, "num_local_experts": 8, "num_experts_per_tok": 2}
    ),
    _language(
        "deepseek_v3",
        {
            **_SHARED,
            **_LATENT,
            "v_head_dim": 64,
            "n_routed_experts": 16,
            "num_experts_per_tok": 4,
            "first_k_dense_replace": 0,
            "n_group": 1,
            "topk_group": 1,
        },
    ),
    _language("llama4_text", {**_CAUSAL, "head_dim": 64, "num_local_experts": 4}),
    _language("mamba2", {**_TEXT, "num_heads": 8, "head_dim": 64, "n_groups": 1, "state_size": 16}),
    _language("rwkv", {**_TEXT, "attention_hidden_size": 256, "context_length": TOKENS}),
    _encoder("bert", _TEXT),
    _encoder("roberta", _TEXT),
    _encoder("mpnet", _TEXT),
    _encoder("modernbert", {**_TEXT, "cls_token_id": 1, "sep_token_id": 2}),
    _encoder("deberta-v2", {**_TEXT, **_RELATIVE, "position_buckets": 64}),
    _encoder("mt5", {"vocab_size": VOCABULARY, **_T5, **_IDS}),
    _encoder(
        "xlnet",
        {"vocab_size": VOCABULARY, "d_model": 256, "n_layer": 2, "n_head": 4, "d_inner": 512},
    ),
    _encoder("longformer", {**_TEXT, "attention_window": 32}),
    _images("vit", _VIT),
    _images("dinov2", _VIT),
    _images("beit", {**_VIT, "use_relative_position_bias": True}),
    _images("swin", {"image_size": 64, "patch_size": 4, **_WINDOWS}),
    _images("swinv2", {"image_size": 64, "patch_size": 4, **_WINDOWS}),
    _images("convnext", {**_STAGES, "hidden_sizes": [48, 96, 192, 384]}),
    _images("resnet", {**_STAGES, "embedding_size": 32, "layer_type": "basic"}),
    _images("regnet", {**_STAGES, "embedding_size": 32, "groups_width": 16}),
    _images("mobilenet_v2", {"image_size": 64}),
    _images("efficientnet", {"image_size": 64, "width_coefficient": 0.5, "hidden_dim": 640}),
    _images("poolformer", {"hidden_sizes": [32, 64, 96, 128], "depths": [2, 2, 2, 2]}),
    _images("segformer", {"depths": [1, 1, 1, 1]}),
)


def _widths(label: str, name: str, told: dict[str, Any]) -> Architecture:
    return Architecture(label, name, told, AutoModelForCausalLM, 8)


def _texts(label: str, name: str, told: dict[str, Any]) -> Architecture:
    return Architecture(label, name, told, AutoModelForSequenceClassification, 8)


def _photos(label: str, name: str, told: dict[str, Any], pixels: int = 224) -> Architecture:
    return Architecture(label, name, told, AutoModelForImageClassification, 8, pixels)


PUBLISHED: Sequence[Architecture] = (
    _widths("SmolLM2-135M", "llama", _wide(576, 1536, 9, num_key_value_heads=3)),
    _widths("Qwen3-0.6B", "qwen3", _wide(1024, 3072, 16, num_key_value_heads=8, head_dim=128)),
    _widths("DiffLlama-375M", "diffllama", _wide(1024, 2816, 16, num_key_value_heads=8)),
    _widths("RWKV-169M", "rwkv", _wide(768, 3072, 12, context_length=TOKENS)),
    _texts("MiniLM-L6", "bert", _wide(384, 1536, 12)),
    _texts("BERT-base", "bert", _wide(768, 3072, 12)),
    _texts("MPNet-base", "mpnet", _wide(768, 3072, 12)),
    _texts(
        "DeBERTa-v3-xsmall",
        "deberta-v2",
        _wide(384, 1536, 6, **_RELATIVE, position_buckets=256),
    ),
    _texts(
        "DeBERTa-v3-small",
        "deberta-v2",
        _wide(768, 3072, 12, **_RELATIVE, position_buckets=256),
    ),
    _texts(
        "XLNet-base",
        "xlnet",
        {"vocab_size": VOCABULARY, "d_model": 768, "n_layer": 2, "n_head": 12, "d_inner": 3072},
    ),
    _texts("Longformer-base", "longformer", _wide(768, 3072, 12, attention_window=TOKENS)),
    _photos("ViT-tiny", "vit", {**_VIT, "patch_size": 16}),
    _photos("DINOv2-small", "dinov2", {**_VIT, "hidden_size": 384, "num_attention_heads": 6}),
    _photos("BEiT-base", "beit", {"use_relative_position_bias": True, "num_hidden_layers": 4}),
    _photos("Swin-tiny", "swin", {}),
    _photos("SwinV2-tiny", "swinv2", {"image_size": 256, "window_size": 8}, 256),
    _photos("ConvNeXt-tiny", "convnext", {}),
    _photos("ResNet-18", "resnet", {**_STAGES, "layer_type": "basic"}),
    _photos(
        "RegNetY-200MF",
        "regnet",
        {
            "embedding_size": 32,
            "hidden_sizes": [24, 56, 152, 368],
            "depths": [1, 1, 4, 7],
            "groups_width": 8,
        },
    ),
    _photos("RegNetY-4GF", "regnet", {}),
    _photos("MobileNetV2", "mobilenet_v2", {}),
    _photos(
        "EfficientNet-B0",
        "efficientnet",
        {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280},
    ),
    _photos("PoolFormer-S12", "poolformer", {}),
    _photos("SegFormer-B0", "segformer", {}),
    _photos("PVTv2-B0", "pvt_v2", {}),
    _photos("CvT-13", "cvt", {}),
)
