"""The cnn task as a plain PyTorch script does it: what `vr bench task cnn` measures against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vrcli.tasks.base import Splits
from vrcli.tasks.cnn import Cnn


def plain(task: Cnn, splits: Splits, batch_size: int, seed: int) -> Iterator[float]:
    """One training step per `next()`, without end: the task's network on the CPU in torch's default layout, AdamW.

    Images pass one by one through Pillow transforms in a `Dataset`, as torchvision's do, and a `DataLoader` without
    workers makes batches of them; the loss is read back in every step.

    Yields:
        The training loss of the step.
    """
    torch.manual_seed(seed)
    model = task.model(splits)
    assert isinstance(model, nn.Sequential)
    model = model[1:].to(memory_format=torch.contiguous_format).train()  # the data set below normalises
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(_Transformed(task, splits), batch_size=batch_size, shuffle=True)
    criterion = task.criterion
    while True:
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images).float(), labels)
            loss.backward()
            optimizer.step()
            yield loss.item()


class _Transformed(Dataset[tuple[Tensor, int]]):
    """Random crop, random flip, to tensor, normalise: one image at a time."""

    def __init__(self, task: Cnn, splits: Splits) -> None:
        pixels, labels = splits.train.tensors
        self.images, self.labels = pixels.numpy(), labels.tolist()
        self.flip, self.padding = task.config.flip, task.config.crop_padding
        self.mean, self.std = _column(splits.info["mean"]), _column(splits.info["std"])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        array = self.images[index]
        image = Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0])
        if self.padding:
            width, height = image.size
            image = ImageOps.expand(image, self.padding)
            top, left = torch.randint(2 * self.padding + 1, (2,)).tolist()
            image = image.crop((left, top, left + width, top + height))
        if self.flip and torch.rand(1).item() < 0.5:
            image = ImageOps.mirror(image)
        tensor = torch.from_numpy(np.array(image)).view(*array.shape).permute(2, 0, 1).contiguous()
        return (tensor.float().div(255) - self.mean) / self.std, self.labels[index]


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)
