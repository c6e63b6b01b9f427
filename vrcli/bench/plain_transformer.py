"""The transformer task as a plain PyTorch script does it: what `vr bench task transformer` measures against."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tasks.base import Splits
from tasks.transformer import Seq2Seq, Transformer


def plain(task: Transformer, splits: Splits, batch_size: int, seed: int) -> Iterator[float]:
    """One training step per `next()`, without end: the task's own model on the CPU, whole logits, AdamW.

    The data come from a `DataLoader`, masks are built in every step, and the loss is read back in every step. Call
    `next` under `torch.autocast` for reduced precision.

    Yields:
        The training loss of the step.
    """
    torch.manual_seed(seed)
    model = task.model(splits).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(*splits.train.tensors), batch_size=batch_size, shuffle=True)
    while True:
        for (rows,) in loader:
            inputs, target = rows[:, :-1], rows[:, 1:]
            optimizer.zero_grad()
            logits = _logits(model, inputs)  # (B, T, V)
            loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1))
            torch.autograd.backward(loss)
            optimizer.step()
            yield loss.item()


def _logits(model: Seq2Seq, inputs: Tensor) -> Tensor:
    causal = nn.Transformer.generate_square_subsequent_mask(inputs.shape[1])
    seen = None if model.leak_targets else causal
    positions = model.positions[: inputs.shape[1]]
    source = model.dropout(model.encoder_embedding(inputs) * model.scale + positions)
    target = model.dropout(model.decoder_embedding(inputs) * model.scale + positions)
    hidden = model.transformer(source, target, src_mask=seen, tgt_mask=causal, memory_mask=seen)
    logits: Tensor = model.output(hidden)
    return logits
