"""gflownet: a generative flow network that draws patterns in a GridWorld.

Source:      arXiv:2505.13196, section 5 (GFlowNet); the authors' released code for sizes and reward. Flow matching on
             edges: Bengio et al., arXiv:2106.04399; Bengio et al., arXiv:2111.09266.
Note:        Trajectories come from the policy, so one that always stops at once is scored on the start alone, where
             F P_F(stop) = R is easily met: with the paper's settings every optimizer ends there, at a loss near 0. The
             exact solution, whose samples follow R, has loss 0 too, but flows that grow with the number of states.
             Length, distinct and diversity tell the two apart. The quick preset has a flatter reward and a weightier
             entropy, which slow this down but do not prevent it: at its best epoch the policy makes about 0.35 moves
             and draws some 20 patterns in 512 trajectories. Compare optimizers on its loss, not on what it draws.
Deviations:  - Stopping is an edge with its own probability: F(s) P_F(stop|s) is compared with R(s). The paper's
               F(s_T) = R(s_T) contradicts any stop probability below 1. At the step limit P_F(stop|s) = 1.
             - P_B is a distribution over the states a state can have come from: the cell entered from, or the same cell
               after a move into a wall. In a corner two moves have the same effect; P_F of that step is their sum.
             - L_FM is the mean over trajectories of the sum over transitions; L_R = -mean reward, without a gradient;
               L_H = -mean entropy of P_F over the visited states that leave a choice. The paper does not say.
             - The reward temperature T makes the target R^(1/T).
             - Validation and test draw trajectories from the policy itself with noise of their own, fixed once.
             - `released_loss`: see `flow_matching.py`. T divides the reward, in training only. The released preset
               uses it, and starts on an empty grid. Its code evaluates on new trajectories each time; here they keep
               their noise.
Shapes:      T steps at most, B trajectories, S distinct states visited, C = N * N cells; encoded (S, 3, N, N), policy
             and backward logits (S, 5), flow (S,); by step and trajectory: row, action, position, live (T + 1, B)
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vrcli.tasks.base import Batch, Metric, Preset, Sourced, Split, Splits, Task, TaskConfig, TaskError, assumed, stated
from vrcli.tasks.flow_matching import flow_matching, policy_entropy, released_entropy, released_flow_matching
from vrcli.tasks.gridworld import ACTIONS, CHANNELS, ORIGINS, GridWorld, Heads, Rollout, gumbel, rollout
from vrcli.tasks.space import Categorical, Integer, Real, Space

#: Trajectories that evaluation samples at once.
_EVALUATION_CHUNK = 1024
_ARTIFACT_TRAJECTORIES = 256

_CODE = "the authors' released code"
_UNTUNED = "the paper gives one value and swept none for this task"


def _settings(code: Callable[[object], Sourced]) -> dict[str, Sourced]:
    """The numbers of the paper and of the released code; `code` gives those that only the code has their provenance."""
    return {
        "grid_size": stated(8, "section 5"),
        "max_moves": code(64),
        "reward_temperature": code(1.0),
        "flow_weight": code(1.0),
        "reward_weight": code(1.0),
        "entropy_weight": code(0.01),
        "width": code(32),
        "hidden": code(128),
        "epochs": code(50),
        "train_trajectories": code(640),
        "batch_size": code(64),
    }


_PAPER_OPTIMIZERS: Mapping[str, Mapping[str, Sourced]] = {
    "vradam": {
        "lr": stated(0.01, "GFlowNet settings"),
        "beta3": stated(1.0, "GFlowNet settings"),
        "normgrad": stated(False, "GFlowNet settings"),
        "lr_cutoff": stated(19, "GFlowNet settings"),
        "weight_decay": stated(1e-5, "GFlowNet settings"),
    },
    "adamw": {"lr": stated(0.01, "GFlowNet settings"), "weight_decay": stated(1e-5, "GFlowNet settings")},
    "sgd": {
        "lr": stated(0.01, "GFlowNet settings"),
        "momentum": assumed(0.9, "as the paper's CNN; Table 3 says SGD + Nesterov"),
        "nesterov": stated(True, "Table 3"),
    },
    "rmsprop": {"lr": stated(0.01, "GFlowNet settings")},
    "*": {"lr": assumed(0.01, "what the paper gives every optimizer")},
}


# -- model ------------------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """One convolutional encoder, three heads: policy, backward policy and flow.

    Args:
        size: cells per side of the grid.
        width: channels of the first of three convolutions; each next one has twice as many.
        hidden: units of the encoding and of the heads' hidden layers.
    """

    def __init__(self, size: int, width: int, hidden: int) -> None:
        super().__init__()
        convolutions: list[nn.Module] = []
        channels = [CHANNELS, width, 2 * width, 4 * width]
        for before, after in itertools.pairwise(channels):
            convolutions += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*convolutions, nn.Flatten())
        self.encoder = nn.Sequential(
            nn.Linear(channels[-1] * size * size, 2 * hidden),
            nn.ReLU(inplace=True),
            nn.Linear(2 * hidden, hidden),
            nn.ReLU(inplace=True),
        )
        self.policy, self.backward_policy, self.flow = (_head(hidden, n) for n in (ACTIONS, ORIGINS, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def features(self, encoded: Tensor) -> Tensor:
        """The convolutions' part of the encoder: (S, 3, N, N) -> (S, 4 * width * N * N)."""
        features: Tensor = self.convolutions(encoded)
        return features

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Policy logits (S, 5), backward logits (S, 5) and flow (S,), in float32."""
        h = self.encoder(features)
        flow = F.softplus(self.flow(h).float().squeeze(1))
        return self.policy(h).float(), self.backward_policy(h).float(), flow

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.heads(self.features(encoded))


def _head(hidden: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(hidden, hidden), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(hidden, out))


# -- task -------------------------------------------------------------------------------------------------------------


class GFlowNetConfig(TaskConfig):
    grid_size: int = Field(8, ge=2, le=64, description="cells per side")
    max_moves: int = Field(64, ge=1, description="moves after which a trajectory must stop")
    marked_start: bool = Field(True, description="the start cell is marked and visited before the first move")
    reward_temperature: float = Field(
        1.0, gt=0, description="T: the flow out of a final state is R^(1/T); with released_loss R / T, in training only"
    )
    flow_weight: float = Field(1.0, ge=0, description="weight of the flow matching loss")
    reward_weight: float = Field(1.0, ge=0, description="weight of -reward in the training loss (no gradient)")
    entropy_weight: float = Field(0.01, ge=0, description="weight of the policy's entropy")
    train_trajectories: int = Field(640, ge=1, description="trajectories sampled per epoch")
    eval_trajectories: int = Field(512, ge=2, description="trajectories sampled for validation, and for test")
    width: int = Field(32, ge=1, description="channels of the first convolution, then x 2, x 4")
    hidden: int = Field(128, ge=1, description="units of the encoding and of the heads")
    released_loss: bool = Field(False, description="misaligned, unmasked loss and summed entropy of the released code")


class GFlowNet(Task[GFlowNetConfig]):
    name = "gflownet"
    summary = "GFlowNet that draws patterns in a GridWorld, flow matching loss"
    metrics = (
        Metric("loss", "min"),
        Metric("loss_se", "min"),
        Metric("reward", "max"),
        Metric("reward_max", "max"),
        Metric("diversity", "max", unit="cells", shown=True),
        Metric("length", "max", unit="moves", shown=True),
        Metric("distinct", "max", unit="grids", shown=True),
    )
    no_closure = "a batch is sampled from the model, so a second evaluation would score other trajectories"

    Config = GFlowNetConfig
    presets = {
        "smoke": Preset(
            {
                "grid_size": assumed(4, "a check, not a result"),
                "max_moves": assumed(6, "the same"),
                "width": assumed(4, "the same"),
                "hidden": assumed(16, "the same"),
                "train_trajectories": assumed(64, "the same"),
                "eval_trajectories": assumed(64, "the same"),
                "batch_size": assumed(32, "the same"),
                "epochs": assumed(3, "the same"),
            },
            {"*": {"lr": assumed(0.003, "the same")}},
            "a few seconds, for checks",
        ),
        "quick": Preset(
            {
                "width": assumed(8, "seconds on two cores"),
                "hidden": assumed(64, "seconds on two cores"),
                "epochs": assumed(25, "AdamW, VRAdam and SGD all level off"),
                "reward_temperature": assumed(3.0, "at the paper's 1 every optimizer learns to stop at once"),
                "entropy_weight": assumed(1.0, "at the paper's 0.01 every optimizer learns to stop at once"),
                "reward_weight": assumed(0.0, "it only adds a constant; without it training and validation compare"),
                "train_trajectories": assumed(640, f"as {_CODE}"),
                "batch_size": assumed(64, f"as {_CODE}"),
            },
            {
                "vradam": {"lr": assumed(0.005, "the velocity term divides it while gradients are large")},
                "sgd": {
                    "lr": assumed(0.03, "levels off within the epochs"),
                    "momentum": assumed(0.9, "as the paper's CNN"),
                    "nesterov": assumed(True, "as the paper"),
                },
                "*": {
                    "lr": assumed(0.003, "a third of the paper's rate gives AdamW a smoother curve"),
                    "weight_decay": assumed(1e-5, "as in the paper, the same for every optimizer"),
                },
            },
            "the paper's grid, a smaller network, a flatter reward and more entropy",
        ),
        "paper": Preset(
            {
                **_settings(lambda value: assumed(value, f"as {_CODE}")),
                "marked_start": assumed(True, "the paper does not say; so every state has a visit to divide by"),
                "schedule": assumed("constant", f"no schedule is stated for this task; none in {_CODE}"),
            },
            _PAPER_OPTIMIZERS,
            "8x8, 64 moves, 50 epochs of 10 steps",
        ),
        "released": Preset(
            {
                **_settings(lambda value: stated(value, _CODE)),
                "marked_start": stated(False, f"{_CODE}: stopping at once pays 4"),
                "released_loss": stated(True, f"{_CODE}: misaligned, broadcast and unmasked"),
                "eval_trajectories": stated(100, f"{_CODE}: min(100, 2 x batch)"),
                "schedule": stated("constant", f"{_CODE}: it creates no scheduler"),
            },
            {**_PAPER_OPTIMIZERS, "adam": {**_PAPER_OPTIMIZERS["adamw"]}},
            "the authors' code, faults included; their AdamW is --opt adam",
        ),
    }
    space: ClassVar[Mapping[str, Space]] = {
        "*": {"lr": Real(1e-4, 1e-1, log=True, origin=_UNTUNED)},
        "vradam": {
            "lr": Real(1e-4, 1e-1, log=True, origin=_UNTUNED),
            "beta3": Real(0.1, 2.0, origin="Table 12 (diffusion); " + _UNTUNED),
            "normgrad": Categorical((True, False), origin="as for the other tasks"),
            "lr_cutoff": Integer(5, 30, origin="Tables 9 and 12 (Transformer, diffusion)"),
        },
    }

    def __init__(self, config: GFlowNetConfig, *, data_dir: Path | None = None) -> None:
        super().__init__(config, data_dir=data_dir)
        self._worlds: dict[torch.device, GridWorld] = {}

    def world(self, device: torch.device) -> GridWorld:
        if device not in self._worlds:
            c = self.config
            self._worlds[device] = GridWorld(c.grid_size, c.max_moves, device, marked_start=c.marked_start)
        return self._worlds[device]

    def files(self) -> list[Path]:
        return []

    @classmethod
    def shares_steps(cls, config: GFlowNetConfig, batch_size: int) -> bool:
        # Measured: 64 trajectories on 8x8 cells at width 8 take as long with two threads; at width 32 a quarter less.
        return batch_size * (config.grid_size * config.width) ** 2 > 64 * (8 * 8) ** 2

    def data(self, generator: torch.Generator) -> Splits:
        c = self.config
        if c.dataset not in ("", "gridworld"):
            raise TaskError(f"gflownet has no data set {c.dataset!r}: its trajectories are sampled from the model")
        noise = gumbel(2 * c.eval_trajectories, c.max_moves, ACTIONS, generator=generator)
        val, test = (Split((part,)) for part in torch.split(noise, c.eval_trajectories))
        train = Split((torch.arange(c.train_trajectories),))
        about = f"{c.grid_size}x{c.grid_size}, at most {c.max_moves} moves, {len(train)} trajectories an epoch"
        return Splits(train, val, test, "gridworld", about, sampled=True)

    def model(self, data: Splits) -> nn.Module:
        return Network(self.config.grid_size, self.config.width, self.config.hidden)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """w_FM L_FM + w_R L_R + w_H L_H of as many fresh trajectories as the batch has rows."""
        c, (ids,) = self.config, batch
        world = self.world(ids.device)
        sampled = rollout(world, cast(Network, model), gumbel(len(ids), c.max_moves, ACTIONS, device=ids.device))
        # Weights that autocast has cast without gradients must not be used again here: not every torch sees to it.
        torch.clear_autocast_cache()
        heads = Heads(*cast(Network, model).heads(sampled.features))
        reward = self.target(world.reward(sampled.visits), training=True)
        flow_loss = self.flow_loss(world, sampled, heads, reward).mean()
        entropy = released_entropy(world, sampled, heads) if c.released_loss else policy_entropy(sampled, heads)
        return c.flow_weight * flow_loss - c.reward_weight * reward.mean() - c.entropy_weight * entropy

    def target(self, reward: Tensor, *, training: bool) -> Tensor:
        """The flow that shall leave final states of this reward."""
        if self.config.released_loss:
            return reward / self.config.reward_temperature if training else reward
        return reward ** (1 / self.config.reward_temperature)

    def flow_loss(self, world: GridWorld, sampled: Rollout, heads: Heads, reward: Tensor) -> Tensor:
        matching = released_flow_matching if self.config.released_loss else flow_matching
        return matching(world, sampled, heads, reward)

    def artifacts(self, model: nn.Module, *, epoch: int, last: bool) -> dict[str, bytes]:
        if not last:
            return {}
        world = self.world(next(model.parameters()).device)
        noise = gumbel(_ARTIFACT_TRAJECTORIES, world.max_moves, ACTIONS, device=next(model.parameters()).device)
        return {"grids.txt": gallery(world, rollout(world, cast(Network, model), noise), epoch).encode()}

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        world = self.world(split.tensors[0].device)
        losses, rewards, lengths, visits = [], [], [], []
        for (noise,) in split.chunks(_EVALUATION_CHUNK):
            sampled = rollout(world, cast(Network, model), noise)
            raw = world.reward(sampled.visits)
            losses.append(self.flow_loss(world, sampled, sampled.heads, self.target(raw, training=False)))
            rewards.append(raw)
            lengths.append(sampled.live.sum(0) - 1)
            visits.append(sampled.visits)
        loss, reward, length = (torch.cat(parts).double() for parts in (losses, rewards, lengths))
        marks = torch.cat(visits) > 0
        values = (loss.mean(), loss.std() / math.sqrt(len(loss)), reward.mean(), reward.max(), diversity(marks),
                  length.mean(), _distinct_rows(world, marks))  # fmt: skip
        found: list[float] = torch.stack([value.double() for value in values]).tolist()
        return dict(zip([metric.name for metric in self.metrics], found, strict=True))


def diversity(marks: Tensor) -> Tensor:
    """Mean Hamming distance of all pairs of grids (n, C), in cells."""
    n = len(marks)
    ones = marks.double().sum(0)
    return (ones * (n - ones)).sum() / (n * (n - 1) / 2)


def _distinct_rows(world: GridWorld, marks: Tensor) -> Tensor:
    keys = world.visits_key(marks).sort().values
    return (keys[1:] != keys[:-1]).sum() + 1


def gallery(world: GridWorld, sampled: Rollout, epoch: int) -> str:
    """The final states drawn most often and those of the highest reward, side by side as text."""
    rewards = world.reward(sampled.visits).tolist()
    finals = [tuple(row) for row in torch.cat([sampled.visits, sampled.position[-1:].T], 1).int().tolist()]
    count, reward = Counter(finals), dict(zip(finals, rewards, strict=True))
    width = max(2 * world.size - 1, 14)
    shown = max(1, 92 // (width + 3))
    lines = [f"{len(finals)} trajectories after epoch {epoch}: {len(count)} distinct final states"]
    best = sorted(reward, key=lambda final: -reward[final])
    for title, chosen in (("drawn most often", [f for f, _ in count.most_common(shown)]), ("highest reward", best)):
        lines += ["", title]
        blocks = [
            [f"R {reward[f]:.2f}  {count[f]} x", *world.draw(torch.tensor(f[:-1]), torch.tensor(f[-1]))]
            for f in chosen[:shown]
        ]
        lines += ["   ".join(part.ljust(width) for part in row).rstrip() for row in zip(*blocks, strict=True)]
    return "\n".join(lines) + "\n"
