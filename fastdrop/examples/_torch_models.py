"""Three small networks in plain torch.nn: an MLP, a transformer encoder, and layers of LSTM.

All drop by `torch.nn.Dropout`, which `fastdrop.torch.convert` swaps. The encoder also takes
functions that fuse dropout with what stands beside it. `python -m bench torch` times their steps,
and the example `torch_step` trains the encoder.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fused(Protocol):
    """Functions that drop and do more in one pass: fastdrop.torch.functional has them."""

    def softmax_dropout(self, input: Tensor, p: float, *, training: bool) -> Tensor:
        """Return the softmax along the last axis, with elements dropped."""

    def bias_act_dropout_add(
        self,
        input: Tensor,
        bias: Tensor,
        activation: str,
        p: float,
        *,
        residual: Tensor | None,
        training: bool,
    ) -> Tensor:
        """Add a bias, apply an activation, drop, and add the residual if there is one."""


class MLP(nn.Module):
    """Two hidden ReLU layers and scores, with dropout on the input and on either hidden layer."""

    def __init__(
        self, inputs: int, hidden: int, classes: int, p_input: float = 0.2, p: float = 0.5
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Dropout(p_input), nn.Linear(inputs, hidden), nn.ReLU()),
            *(nn.Dropout(p), nn.Linear(hidden, hidden), nn.ReLU()),
            *(nn.Dropout(p), nn.Linear(hidden, classes)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return scores of shape (batch, classes)."""
        scores: Tensor = self.layers(x)
        return scores


class Block(nn.Module):
    """Self-attention and a feed-forward part, each behind a norm and on a residual stream.

    Dropout is applied to the attention's probabilities, within the feed-forward part, and to what
    either part adds to the stream.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int,
        p: float,
        fused: Fused | None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.p, self.fused, self.causal = heads, p, fused, causal
        self.norm_attention, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)
        self.drop_scores, self.drop_hidden = nn.Dropout(p), nn.Dropout(p)
        self.drop_attention, self.drop = nn.Dropout(p), nn.Dropout(p)

    def attend(self, x: Tensor) -> Tensor:
        """Return what the heads have gathered, side by side, before the output projection."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5
        if self.causal:
            later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        if self.fused:
            kept = self.fused.softmax_dropout(scores, self.p, training=self.training)
        else:
            kept = self.drop_scores(scores.softmax(-1))
        gathered: Tensor = (kept @ v).transpose(1, 2).reshape(batch, length, width)
        return gathered

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream after both parts, of x's shape (batch, length, width)."""
        gathered = self.attend(self.norm_attention(x))
        if self.fused is None:
            x = x + self.drop_attention(self.out(gathered))
            hidden = self.drop_hidden(F.gelu(self.widen(self.norm(x))))
            summed: Tensor = x + self.drop(self.narrow(hidden))
            return summed
        x = self._epilogue(self.out, gathered, "identity", x)
        hidden = self._epilogue(self.widen, self.norm(x), "gelu", None)
        return self._epilogue(self.narrow, hidden, "identity", x)

    def _epilogue(self, linear: nn.Linear, x: Tensor, act: str, residual: Tensor | None) -> Tensor:
        """Multiply by a linear layer's weight alone, and do all that follows in one pass."""
        assert self.fused is not None
        product = F.linear(x, linear.weight)
        fused = self.fused.bias_act_dropout_add
        return fused(product, linear.bias, act, self.p, residual=residual, training=self.training)


class Encoder(nn.Module):
    """A transformer that reads tokens and scores the next one: embedding, blocks, norm, scores.

    With `causal`, a token attends to those before it and to itself alone.
    """

    def __init__(
        self,
        tokens: int,
        length: int,
        width: int = 128,
        heads: int = 4,
        feed_forward: int = 512,
        blocks: int = 2,
        p: float = 0.1,
        fused: Fused | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.drop = nn.Dropout(p)
        self.blocks = nn.Sequential(
            *(Block(width, heads, feed_forward, p, fused, causal) for _ in range(blocks))
        )
        self.norm, self.scores = nn.LayerNorm(width), nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return scores of shape (batch, length, tokens)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.embed(tokens) + self.place(places))
        scores: Tensor = self.scores(self.norm(self.blocks(x)))
        return scores


class LSTM(nn.Module):
    """Layers of LSTM over tokens, with dropout on the embedding and on what each layer returns."""

    def __init__(self, tokens: int, hidden: int, layers: int = 2, p: float = 0.5) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, hidden)
        self.layers = nn.ModuleList(
            nn.LSTM(hidden, hidden, batch_first=True) for _ in range(layers)
        )
        self.drops = nn.ModuleList(nn.Dropout(p) for _ in range(layers + 1))
        self.scores = nn.Linear(hidden, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return scores of shape (batch, length, tokens)."""
        x = self.drops[0](self.embed(tokens))
        for layer, drop in zip(self.layers, self.drops[1:], strict=True):
            x = drop(layer(x)[0])
        scores: Tensor = self.scores(x)
        return scores
