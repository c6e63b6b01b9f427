"""The transformer task as a plain PyTorch script does it: what `vr bench task transformer` measures against."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from vrcli.tasks.base import Splits
from vrcli.tasks.transformer import Config, Transformer


class Plain(nn.Module):
    """The task's model from torch's own modules: `nn.Transformer`, masks built in every step, all logits at once."""

    def __init__(self, vocabulary: int, config: Config) -> None:
        super().__init__()
        width, layers, dropout = config.d_model, config.layers, config.dropout
        self.scale = math.sqrt(width)
        self.encoder_embedding = nn.Embedding(vocabulary, width)
        self.decoder_embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        self.transformer = nn.Transformer(width, config.heads, layers, layers, config.d_ff, dropout, batch_first=True)
        self.output = nn.Linear(width, vocabulary)
        for weight in (self.encoder_embedding.weight, self.decoder_embedding.weight, self.output.weight):
            nn.init.uniform_(weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)
        rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        angle = torch.arange(config.seq_len).unsqueeze(1) * rate
        self.positions: Tensor
        self.register_buffer("positions", torch.stack([angle.sin(), angle.cos()], 2).flatten(1), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) for tokens (B, T)."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        positions = self.positions[: tokens.shape[1]]
        source = self.dropout(self.encoder_embedding(tokens) * self.scale + positions)
        target = self.dropout(self.decoder_embedding(tokens) * self.scale + positions)
        hidden = self.transformer(source, target, src_mask=mask, tgt_mask=mask, memory_mask=mask)
        logits: Tensor = self.output(hidden)
        return logits


def plain(task: Transformer, splits: Splits, batch_size: int, seed: int) -> Iterator[float]:
    """One training step per `next()`, without end: a model of the task's sizes on the CPU, and AdamW.

    The data come from a `DataLoader`, and the loss is read back in every step. Call `next` under `torch.autocast` for
    reduced precision.

    Yields:
        The training loss of the step.
    """
    torch.manual_seed(seed)
    model = Plain(splits.info["vocabulary"], task.config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(*splits.train.tensors), batch_size=batch_size, shuffle=True)
    while True:
        for (rows,) in loader:
            inputs, target = rows[:, :-1], rows[:, 1:]
            optimizer.zero_grad()
            logits = model(inputs)  # (B, T, V)
            loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1))
            torch.autograd.backward(loss)
            optimizer.step()
            yield loss.item()
