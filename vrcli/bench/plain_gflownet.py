"""The gflownet task written plainly: one environment object per trajectory, one forward pass per step.

What a reader of the paper would write first. Every step encodes all trajectories of the batch, ended ones too, moves
them one by one and reads actions with `.item()`; the loss then passes over the steps once more, encoding s and s' of
each. Same states, network, batch and loss as the task; AdamW from torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vrcli.errors import UsageError
from vrcli.tasks.base import Splits
from vrcli.tasks.gflownet import GFlowNet, GFlowNetConfig

_DELTAS = ((-1, 0), (1, 0), (0, -1), (0, 1))
_STOP, _STAYED = 4, 4


class Environment:
    """One agent on an N x N grid."""

    def __init__(self, size: int, max_moves: int) -> None:
        self.size, self.max_moves = size, max_moves
        self.row = self.column = size // 2
        self.visits = [[0] * size for _ in range(size)]
        self.visits[self.row][self.column] = 1
        self.moves = 0
        self.done = False

    def end(self, row: int, column: int, action: int) -> tuple[int, int]:
        r, c = row + _DELTAS[action][0], column + _DELTAS[action][1]
        return (r, c) if 0 <= r < self.size and 0 <= c < self.size else (row, column)

    def alike(self, action: int) -> list[bool]:
        """Which actions lead to the same state as `action`."""
        if action == _STOP:
            return [False] * 4 + [True]
        end = self.end(self.row, self.column, action)
        return [self.end(self.row, self.column, a) == end for a in range(4)] + [False]

    def step(self, action: int) -> int:
        """Move, or stop; returns how the new state was entered."""
        if action == _STOP:
            self.done = True
            return _STOP
        row, column = self.end(self.row, self.column, action)
        stayed = (row, column) == (self.row, self.column)
        self.row, self.column = row, column
        self.visits[row][column] += 1
        self.moves += 1
        return _STAYED if stayed else action

    def encode(self) -> Tensor:
        visits = torch.tensor(self.visits, dtype=torch.float32)
        here = torch.zeros(self.size, self.size)
        here[self.row, self.column] = 1.0
        return torch.stack([(visits > 0).float(), here, visits])

    def parents(self) -> list[bool]:
        """Which ways the current state can have been entered."""
        return [self._visited_before(*self._back(action)) for action in range(4)] + [self._can_have_stayed()]

    def _back(self, action: int) -> tuple[int, int]:
        return self.row - _DELTAS[action][0], self.column - _DELTAS[action][1]

    def _visited_before(self, row: int, column: int) -> bool:
        if not (0 <= row < self.size and 0 <= column < self.size):
            return False
        count = self.visits[row][column] - ((row, column) == (self.row, self.column))
        start = (row, column) == (self.size // 2, self.size // 2)
        return count >= 1 and not (start and count == 1 and self.moves > 1)

    def _can_have_stayed(self) -> bool:
        last = self.size - 1
        at_wall = self.row in (0, last) or self.column in (0, last)
        return at_wall and self._visited_before(self.row, self.column)

    def reward(self) -> float:
        n = self.size
        grid = [[count > 0 for count in row] for row in self.visits]
        lines = sum(grid[r][c] and grid[r][c + 1] and grid[r][c + 2] for r in range(n) for c in range(n - 2))
        lines += sum(grid[r][c] and grid[r + 1][c] and grid[r + 2][c] for r in range(n - 2) for c in range(n))
        unique = sum(map(sum, grid))
        total = sum(map(sum, self.visits))
        vertical = sum(grid[r][c] == grid[n - 1 - r][c] for r in range(n) for c in range(n)) / n**2
        horizontal = sum(grid[r][c] == grid[r][n - 1 - c] for r in range(n) for c in range(n)) / n**2
        return 10 * lines / 10 + 5 * unique / n**2 + 3 * unique / total + 4 * (vertical + horizontal) / 2


class Trajectories:
    """Sampled states (T + 1, B, 3, N, N) and what the loss needs to know of each."""

    def __init__(self, config: GFlowNetConfig, model: nn.Module, batch_size: int) -> None:
        self.environments = [Environment(config.grid_size, config.max_moves) for _ in range(batch_size)]
        self.states: list[Tensor] = []
        self.alike: list[Tensor] = []
        self.origins: list[Tensor] = []
        self.parents: list[Tensor] = []
        self.live: list[Tensor] = []
        self.forced: list[bool] = []
        while not all(e.done for e in self.environments):
            self._step(model)

    def _step(self, model: nn.Module) -> None:
        states = torch.stack([e.encode() for e in self.environments])
        forced = len(self.states) == self.environments[0].max_moves
        with torch.no_grad():
            actions = torch.multinomial(model(states)[0].softmax(1), 1)
        self.states.append(states)
        self.forced.append(forced)
        self.parents.append(torch.tensor([e.parents() for e in self.environments]))
        self.live.append(torch.tensor([not e.done for e in self.environments]))
        alike, origins = [], []
        for environment, action in zip(self.environments, actions, strict=True):
            chosen = _STOP if environment.done or forced else int(action.item())
            alike.append(environment.alike(chosen))
            origins.append(environment.step(chosen))
        self.alike.append(torch.tensor(alike))
        self.origins.append(torch.tensor(origins))


def loss_of(config: GFlowNetConfig, model: nn.Module, sampled: Trajectories) -> Tensor:
    """The training loss, step by step over the batch."""
    rewards = torch.tensor([e.reward() for e in sampled.environments]) ** (1 / config.reward_temperature)
    flow_loss = torch.zeros(len(rewards))
    entropy, counted = torch.zeros(()), 0
    stopped = torch.tensor([False, False, False, False, True])
    for t, states in enumerate(sampled.states):
        logits, _, flow = model(states)
        policy = stopped.float().expand_as(logits) if sampled.forced[t] else logits.softmax(1)
        out_flow = flow * (policy * sampled.alike[t]).sum(1)
        ends = sampled.live[t] & sampled.alike[t][:, _STOP]
        flow_loss = flow_loss + (out_flow - rewards).square() * ends
        if not sampled.forced[t]:
            each = -(policy * logits.log_softmax(1)).sum(1)
            entropy = entropy + (each * sampled.live[t]).sum()
            counted += int(sampled.live[t].sum().item())
        if t + 1 < len(sampled.states):
            _, backward_logits, next_flow = model(sampled.states[t + 1])
            backward = backward_logits.masked_fill(~sampled.parents[t + 1], -1e9).softmax(1)
            back = backward.gather(1, sampled.origins[t][:, None]).squeeze(1)
            flow_loss = flow_loss + (out_flow - next_flow * back).square() * sampled.live[t + 1]
    return (
        config.flow_weight * flow_loss.mean()
        - config.reward_weight * rewards.mean()
        - config.entropy_weight * entropy / counted
    )


def plain(task: GFlowNet, splits: Splits, batch_size: int, seed: int) -> Iterator[float]:
    """One training step per `next()`, yielding its loss.

    Raises:
        UsageError: the loss is that of the released code, which is written here in one form only.
    """
    if task.config.released_loss:
        raise UsageError("the plain loop has the paper's loss; for gflownet give a preset other than released")
    torch.manual_seed(seed)
    model = task.model(splits)
    yield from train(task.config, model, torch.optim.AdamW(model.parameters(), lr=1e-3), batch_size)


def train(
    config: GFlowNetConfig, model: nn.Module, optimizer: torch.optim.Optimizer, batch_size: int
) -> Iterator[float]:
    """The same with a given model and optimizer."""
    while True:
        loss = loss_of(config, model, Trajectories(config, model, batch_size))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()
