"""A small vision transformer.

Alexey Dosovitskiy et al. "An Image is Worth 16x16 Words: Transformers for Image Recognition at
Scale". ICLR 2021. arXiv:2010.11929, equations 1 to 4.

Dimension key: b images, t tokens (the class token first), h heads, d width.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from preceptor.errors import ModelError


class Attention(nn.Module):
    """Multi-head self-attention; its maps [B, h, T, T] are what `softmax` returns."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.softmax = nn.Softmax(dim=-1)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D], the same shape."""
        mixed = self.query_key_value(x)
        q, k, v = rearrange(mixed, "b t (three h d) -> three b h t d", three=3, h=self.heads)
        maps = self.softmax(q @ k.mT * q.shape[-1] ** -0.5)
        return self.project(rearrange(maps @ v, "b h t d -> b t (h d)"))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): equations 2 and 3."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D], the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Patches and a class token through `blocks`; the head reads the class token."""

    def __init__(
        self,
        classes: int,
        channels: int,
        tokens: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens + 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, V]."""
        patches = rearrange(self.embed(pixels), "b d h w -> b (h w) d")
        x = torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], dim=1)
        x = self.norm(self.blocks(x + self.position))
        return self.head(x[:, 0])


def vit(
    classes: int,
    channels: int,
    size: int,
    *,
    patch: int = 0,
    width: int = 192,
    depth: int = 6,
    heads: int = 3,
) -> VisionTransformer:
    """A vision transformer; `patch` 0 makes an 8x8 grid (4 pixels of 32, one of 8).

    Unlike the paper, without dropout.
    """
    patch = patch or max(1, size // 8)
    if size % patch or width % heads:
        raise ModelError(
            f"a ViT with patch {patch}, width {width} and {heads} heads for {size}x{size} pixels",
            "the patch must divide the size, and the number of heads the width",
            "Choose numbers that divide.",
        )
    return VisionTransformer(classes, channels, (size // patch) ** 2, patch, width, depth, heads)
