"""ratings: matrix factorisation of users' ratings, after a model of biases.

Source:      arXiv:2604.06652, MovieLens-100K and Jester.
Deviations:  Mean and biases are fitted by alternating ridge regression on the training ratings, once and the same for
             every optimizer; the source trains them by Adam with early stopping. The source states neither sizes nor
             a bias model for Jester; MovieLens' are used.
Data:        "movielens" is ml-100k/u.data below --data-dir, "jester" is jester5k/ratings.npz there. Any file or folder
             of one of these names works, and any text of lines "user item rating", separated by tabs, commas,
             semicolons, "::" or spaces; what follows on a line is not read. "synthetic" is planted.
Shapes:      a split has one row: residual and mask (1, users, items); factors (users, k), (items, k)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from vrcli.tasks.base import Batch, Metric, Preset, Split, Splits, Task, TaskConfig, TaskError, assumed, stated
from vrcli.tasks.completion import PAPER, SPACE, Factors, masks, one_row, planted, preset, rmse, squared_error
from vrcli.tasks.images import cache_dir

#: Where the named data sets are below --data-dir.
_NAMED = {"movielens": Path("ml-100k/u.data"), "jester": Path("jester5k/ratings.npz")}
#: Users times items beyond which the dense matrices of a step would not fit.
_MOST_CELLS = 50_000_000
#: Of the biases: ratings that the prior counts as, and sweeps over users and items.
_PRIOR, _SWEEPS = 5.0, 20


class RatingsConfig(TaskConfig):
    dataset: str = Field("synthetic", description="synthetic, movielens, jester, or a file or folder of ratings")
    users: int = Field(120, ge=2, description="users of the synthetic ratings")
    items: int = Field(80, ge=2, description="items of the synthetic ratings")
    density: float = Field(0.5, gt=0, le=1, description="share of the synthetic ratings that exist")
    planted_rank: int = Field(4, ge=1, description="rank of the synthetic ratings beside their biases")
    rank: int = Field(20, ge=1, description="rank of the model")
    biases: bool = Field(True, description="take away the mean and the biases of users and items first")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the ratings that validate")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share of the ratings that test")
    init_scale: float = Field(0.1, gt=0, description="standard deviation of the factors at the start")
    l2: float = Field(1e-5, ge=0, description="weight of the sum of the squared factors in the objective")


# -- data -------------------------------------------------------------------------------------------------------------


def read_ratings(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and ratings of a file: identifiers as they are, ratings in float32.

    Raises:
        TaskError: it cannot be read, or a line lacks a value or has one that is not a number; the line is named.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:
                return file["user"], file["joke"], (file["rating_x100"] / 100).astype(np.float32)
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError, KeyError) as error:
        raise TaskError(f"--dataset {path} cannot be read as ratings: {error}") from error
    users, items, ratings = [], [], []
    for number, line in enumerate(lines, start=1):
        fields = re.split(r"::|[\t,;]| +", line.strip())
        try:
            user, item, rating = fields[:3]
            value = float(rating)
        except ValueError:
            if number == 1 and len(fields) >= 3 and not re.search(r"\d", "".join(fields[:3])):
                continue  # names of the columns
            raise TaskError(
                f"--dataset {path}, line {number}: not a user, an item and a rating: {line[:60]!r}"
            ) from None
        if not (user and item and np.isfinite(value)):
            raise TaskError(f"--dataset {path}, line {number}: not a user, an item and a rating: {line[:60]!r}")
        users.append(user)
        items.append(item)
        ratings.append(value)
    return np.array(users), np.array(items), np.array(ratings, np.float32)


def dense(path: Path) -> tuple[Tensor, Tensor]:
    """The ratings of a file and where there are any, both (users, items).

    Raises:
        TaskError: as `read_ratings`; or there are none, too many cells, or two ratings of one item by one user.
    """
    users, items, ratings = read_ratings(path)
    if not len(ratings):
        raise TaskError(f"--dataset {path} has no ratings")
    (names, row), (titles, column) = (np.unique(ids, return_inverse=True) for ids in (users, items))
    if len(names) * len(titles) > _MOST_CELLS:
        raise TaskError(f"--dataset {path} has {len(names):,} users x {len(titles):,} items; at most 50 million fit")
    cells = row * len(titles) + column
    if len(np.unique(cells)) < len(cells):
        first = np.setdiff1d(np.arange(len(cells)), np.unique(cells, return_index=True)[1])[0]
        raise TaskError(f"--dataset {path}: user {users[first]} rates item {items[first]} twice")
    target, known = torch.zeros(len(names), len(titles)), torch.zeros(len(names), len(titles), dtype=torch.bool)
    target.view(-1)[torch.from_numpy(cells)] = torch.from_numpy(ratings)
    known.view(-1)[torch.from_numpy(cells)] = True
    return target, known


def biases(target: Tensor, mask: Tensor) -> Tensor:
    """The mean and the biases of users and items, (users, items), by alternating ridge regression on what is seen."""
    mean = (target * mask).sum() / mask.sum()
    rest = (target - mean) * mask
    user, item = torch.zeros(len(target), 1), torch.zeros(1, target.shape[1])
    for _ in range(_SWEEPS):
        user = ((rest - item) * mask).sum(1, keepdim=True) / (mask.sum(1, keepdim=True) + _PRIOR)
        item = ((rest - user) * mask).sum(0, keepdim=True) / (mask.sum(0, keepdim=True) + _PRIOR)
    return mean + user + item


# -- the task ---------------------------------------------------------------------------------------------------------

_FILES = {
    "rank": stated(20, "rank-20 factors"),
    "val_fraction": stated(0.1, "split 70/10/20"),
    "test_fraction": stated(0.2, "split 70/10/20"),
    "init_scale": stated(0.1, "init scale 0.1"),
    "l2": stated(1e-5, "light L2 1e-5"),
    "epochs": stated(2000, "2000 epochs, one step each"),
    "patience": stated(100, "patience 100"),
    "eval_every": assumed(1, "patience counts evaluations"),
}
_OPTIMIZERS = {
    "*": {"lr": assumed(0.01, "as in the paper")},
    "flowadam": {"lr": assumed(0.01, "as in the paper"), "mode": assumed("b", "full batch, factorisation")},
}


class Ratings(Task[RatingsConfig]):
    name = "ratings"
    summary = "matrix factorisation of users' ratings beyond their biases"
    metrics = (Metric("rmse", "min"), Metric("ratio", "min"))
    Config = RatingsConfig
    # Ratings reach to 10, so a mean square this large only grows.
    diverged_above = 1e6
    presets = {
        "smoke": Preset(
            {
                "users": assumed(20, "a check, not a result"),
                "items": assumed(15, "a check, not a result"),
                "rank": assumed(3, "a check, not a result"),
                "planted_rank": assumed(2, "a check, not a result"),
                **preset({"epochs": assumed(30, "enough for ten steps of Adam and a flow")}),
            },
            _OPTIMIZERS,
            "synthetic, 20 users, 15 items, 30 steps",
        ),
        "quick": Preset(
            preset(
                {
                    "rank": assumed(8, "more than the planted 4"),
                    "epochs": assumed(500, "the validation error is past its least"),
                    "eval_every": assumed(5, "100 points"),
                }
            ),
            _OPTIMIZERS,
            "synthetic, 120 users, 80 items",
        ),
        "paper": Preset(
            preset(
                {**_FILES, "dataset": stated("movielens", "MovieLens-100K"), "biases": stated(True, "biases first")}
            ),
            PAPER,
            "MovieLens-100K beyond its biases; the file is yours",
        ),
        "jester": Preset(
            preset(
                {
                    **_FILES,
                    "dataset": stated("jester", "Jester"),
                    "biases": assumed(True, "as for MovieLens"),
                    "rank": assumed(20, "as for MovieLens"),
                    "epochs": assumed(2000, "as for MovieLens"),
                    "patience": assumed(100, "as for MovieLens"),
                }
            ),
            PAPER,
            "a sample of 5,000 users of Jester beyond its biases; the file is yours",
        ),
    }
    space = SPACE

    def file(self) -> Path | None:
        """The file of ratings; None for the synthetic ones.

        Raises:
            TaskError: there is none.
        """
        name = self.config.dataset
        if name == "synthetic":
            return None
        if name in _NAMED:
            path = (self.data_dir or cache_dir()) / _NAMED[name]
            if not path.is_file():
                raise TaskError(
                    f"--dataset {name}: there is no {path}; put the file there, or name its folder by --data-dir"
                )
            return path
        path = Path(name).expanduser()
        inside = [path / known.name for known in _NAMED.values() if (path / known.name).is_file()]
        if inside or path.is_file():
            return inside[0] if inside else path
        wanted = " or ".join(known.name for known in _NAMED.values())
        what = f"is a folder without {wanted}" if path.is_dir() else "is not a file or folder"
        raise TaskError(f"--dataset {name} {what}; named data sets are synthetic, {', '.join(_NAMED)}")

    def files(self) -> list[Path] | None:
        try:
            path = self.file()
        except TaskError:  # which loading the data says
            return None
        return [] if path is None else [path]

    def data(self, generator: torch.Generator) -> Splits:
        c, path = self.config, self.file()
        if path is None:
            shape = (c.users, c.items)
            noise, user, item = (torch.randn(s, generator=generator) for s in (shape, (c.users, 1), (1, c.items)))
            target = 3 + 0.5 * (user + item) + 0.3 * noise + planted(shape, c.planted_rank, generator)
            (known,) = masks(shape, [round(c.density * target.numel())], generator)
        else:
            target, known = dense(path)
        index = known.view(-1).nonzero()[:, 0]
        index = index[torch.randperm(len(index), generator=generator)]
        held = [round(share * len(index)) for share in (c.val_fraction, c.test_fraction)]
        sizes = [len(index) - sum(held), *held]
        if min(sizes) < 1:
            raise TaskError(
                f"--val-fraction {c.val_fraction:g} and --test-fraction {c.test_fraction:g} leave {len(index):,} "
                f"ratings as {sizes[0]} to fit, {sizes[1]} to validate, {sizes[2]} to test; each needs one"
            )
        parts = [torch.zeros_like(known) for _ in sizes]
        for part, entries in zip(parts, index.split(sizes), strict=True):
            part.view(-1)[entries] = True
        if c.biases:
            target = target - biases(target, parts[0])
        dataset = "synthetic" if path is None else c.dataset if c.dataset in _NAMED else path.stem
        about = f"{len(index):,} ratings of {target.shape[1]:,} items by {len(target):,} users"
        train, val, test = (one_row(target, part) for part in parts)
        return Splits(train, val, test, dataset, about, {"shape": tuple(target.shape)})

    def model(self, data: Splits) -> nn.Module:
        return Factors(data.info["shape"], self.config.rank, self.config.init_scale)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return squared_error(model(), batch) + self.config.l2 * cast(Factors, model).squared()

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """The error of the ratings, and its ratio to that without factors."""
        found, alone = rmse(model(), split), rmse(torch.zeros_like(split.tensors[0][0]), split)
        return {"rmse": found, "ratio": found / alone if alone else float("nan")}
