"""GridWorld: the environment of the gflownet task and trajectories in it, a whole batch at a time.

An agent starts in the centre of an N x N grid: row and column N // 2, counted from 0. Up, down, left and right move it
by one cell and mark the cell it ends in; a move against the wall leaves it where it is and counts as one more visit of
that cell. Stop ends the trajectory. The start cell is marked and visited from the beginning, or nothing is.

State space: (visit counts of all cells, position). The marks are the cells with a count above 0, and every move adds
exactly 1 to the counts, so that a state knows how many moves led to it: states are graded by that number, no state can
be met twice on one trajectory, and the graph of states is acyclic.

Deviations:  none of these is stated: where the agent starts; mirror symmetry is the share of cells that equal their
             mirror image; the step limit counts moves, and stop is not a move. The paper does not say whether the start
             is marked; in the authors' released code it is not, and efficiency divides by the visits + 1e-6.
Shapes:      visits (B, C) float32 with C = N * N, position (B,) int64, encoded (B, 3, N, N) float32
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

UP, DOWN, LEFT, RIGHT, STOP = range(5)
ACTIONS = 5
#: How a state can have been entered: by one of the four moves from the neighbouring cell, or by staying at a wall.
STAYED, ORIGINS = 4, 5
CHANNELS = 3

#: Logit of what cannot happen. Finite, so that a state without any parent (the start) still has finite probabilities.
NEVER = -1e9

_HASH_SEED = 20250519


class State(NamedTuple):
    """A batch of states: visit counts (B, C) float32 and positions (B,) int64."""

    visits: Tensor
    position: Tensor

    def at(self, index: Tensor) -> State:
        return State(self.visits.index_select(0, index), self.position.index_select(0, index))


class GridWorld:
    """Rules and reward, as tables on one device.

    Args:
        size: cells per side.
        max_moves: moves after which only stop is left.
        marked_start: the start cell is marked and counts as visited once before the first move.
    """

    def __init__(
        self, size: int, max_moves: int, device: torch.device | str = "cpu", *, marked_start: bool = True
    ) -> None:
        self.size, self.max_moves = size, max_moves
        self._at_start = int(marked_start)  # visits of the start cell before the first move
        self._spare = 0.0 if marked_start else 1e-6  # without any visit, efficiency is 0
        self.cells = size * size
        self.centre = size // 2 * size + size // 2
        rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        ends = [(rows - 1, columns), (rows + 1, columns), (rows, columns - 1), (rows, columns + 1)]
        last = size - 1
        moves = torch.stack([r.clamp(0, last) * size + c.clamp(0, last) for r, c in ends], -1).view(-1, 4)  # (C, 4)
        self._tables(moves, device)
        numbers = torch.Generator().manual_seed(_HASH_SEED)
        weights = torch.randint(-(2**63), 2**63 - 1, (2, self.cells), generator=numbers)
        self._visit_weight, self._position_weight = weights[0].to(device), weights[1].to(device)

    def _tables(self, moves: Tensor, device: torch.device | str) -> None:
        cell = torch.arange(self.cells)
        stop = torch.full((self.cells, 1), -1)
        ends = torch.cat([moves, stop], 1)  # (C, 5)
        origin = torch.arange(ACTIONS).expand(self.cells, ACTIONS).clone()
        origin[:, :4][moves == cell[:, None]] = STAYED
        source = moves[:, [DOWN, UP, RIGHT, LEFT]]  # where the move that entered a cell began, (C, 4)
        source[source == cell[:, None]] = -1
        at_wall = (moves == cell[:, None]).any(1)
        source = torch.cat([source, torch.where(at_wall, cell, -1)[:, None]], 1)  # (C, 5)
        self._cell = cell.to(device)
        self._moves = moves.to(device)
        self._alike = (ends[:, :, None] == ends[:, None, :]).flatten(0, 1).to(device)  # (C * 5, 5)
        self._origin = origin.flatten().to(device)  # (C * 5,)
        self._source = source.to(device)

    def start(self, batch: int) -> State:
        device = self._moves.device
        visits = torch.zeros(batch, self.cells, device=device)
        visits[:, self.centre] = self._at_start
        return State(visits, torch.full((batch,), self.centre, device=device))

    def step(self, state: State, action: Tensor, moving: Tensor) -> State:
        """The states after `action` (B,) where `moving` (B,) is true, and no stop; the others stay as they are."""
        end = self._moves[state.position].gather(1, action.clamp(max=3)[:, None]).squeeze(1)
        position = torch.where(moving, end, state.position)
        return State(state.visits + (self._at(position) & moving[:, None]), position)

    def encode(self, state: State) -> Tensor:
        """What the network sees: marks, position and visit counts, (B, 3, N, N) float32."""
        channels = torch.stack([state.visits > 0, self._at(state.position), state.visits], 1)
        return channels.view(-1, CHANNELS, self.size, self.size)

    def _at(self, position: Tensor) -> Tensor:
        return position[:, None] == self._cell  # (B, C)

    def alike(self, position: Tensor, action: Tensor) -> Tensor:
        """Which actions do the same as `action` at `position`, (..., 5): in a corner, two moves do nothing."""
        mask: Tensor = self._alike[position * ACTIONS + action]
        return mask

    def origin(self, position: Tensor, action: Tensor) -> Tensor:
        """How the state after `action` at `position` was entered: the move, or `STAYED`. Stop has no such state."""
        how: Tensor = self._origin[position * ACTIONS + action]
        return how

    def parents(self, state: State) -> Tensor:
        """Which origins a state can have, (B, 5): the agent has visited the cell it would have come from before.

        This rules out no state that a trajectory reaches. It is a local test: whether some walk has given visit counts
        is as hard as finding a Hamiltonian path, so some of the parents it lets through are reached by no trajectory.
        """
        source = self._source[state.position]  # (B, 5)
        steps = self._made(state)
        count = state.visits.gather(1, source.clamp(min=0)) - (source == state.position[:, None]).float()
        count = count + (source == self.centre) * (1 - self._at_start)  # the start is a visit here, marked or not
        # At the start cell with a single visit no move has been made yet.
        untouched_start = (source == self.centre) & (count == 1) & (steps[:, None] > 1)
        known: Tensor = (source >= 0) & (count >= 1)
        return known & ~untouched_start

    def forced(self, state: State) -> Tensor:
        """Whether only stop is left, (B, 1)."""
        return self._made(state)[:, None] >= self.max_moves

    def _made(self, state: State) -> Tensor:
        """The moves that led to each state, (B,)."""
        return state.visits.sum(1) - self._at_start

    def key(self, state: State) -> Tensor:
        """A hash of each state, (B,) int64: that any two of n states share one has a probability below n^2 / 2^57."""
        return self.visits_key(state.visits) + self._position_weight[state.position]

    def visits_key(self, visits: Tensor) -> Tensor:
        """The same of any counts (B, C) alone."""
        return (visits.long() * self._visit_weight).sum(1)

    def reward(self, visits: Tensor) -> Tensor:
        """The reward of stopping with these visit counts, (B,), always above 0."""
        grid = (visits > 0).to(visits.dtype).view(-1, self.size, self.size)
        across = (grid[:, :, :-2] * grid[:, :, 1:-1] * grid[:, :, 2:]).sum((1, 2))
        down = (grid[:, :-2] * grid[:, 1:-1] * grid[:, 2:]).sum((1, 2))
        marked = grid.sum((1, 2))
        unlike = [(grid - grid.flip(axis)).abs().mean((1, 2)) for axis in (1, 2)]
        mirror = 1 - (unlike[0] + unlike[1]) / 2
        efficiency = marked / (visits.sum(1) + self._spare)
        # 10 x lines / 10 + 5 x coverage + 3 x efficiency + 4 x symmetry
        return 10 * (across + down) / 10 + 5 * marked / self.cells + 3 * efficiency + 4 * mirror

    def draw(self, visits: Tensor, position: Tensor) -> list[str]:
        """One state (C,), () as N lines of text: # a mark, @ the agent's cell, . the rest."""
        marks = ["#" if count else "." for count in visits.tolist()]
        marks[int(position)] = "@"
        return [" ".join(marks[i : i + self.size]) for i in range(0, self.cells, self.size)]


# -- trajectories -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heads:
    """The network's outputs for S states: policy and backward logits (S, 5), flow (S,)."""

    policy: Tensor
    backward: Tensor
    flow: Tensor

    @classmethod
    def join(cls, parts: list[tuple[Tensor, Tensor, Tensor]]) -> Heads:
        return cls(*(torch.cat(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Rollout:
    """A batch of trajectories. Each state is stored once, however often and by whomever it was visited.

    Args:
        features: of the states, (S, ...).
        parents: the origins that each state can have, (S, 5).
        forced: whether only stop is left, (S, 1).
        row: which state a trajectory is in, (T + 1, B); its last one after its end.
        action: what the policy drew there, (T + 1, B).
        position: the cell, (T + 1, B).
        live: whether the trajectory has not ended before, (T + 1, B).
        visits: the final visit counts, (B, C).
        heads: the outputs that the actions were drawn from, without gradients.
    """

    features: Tensor
    parents: Tensor
    forced: Tensor
    row: Tensor
    action: Tensor
    position: Tensor
    live: Tensor
    visits: Tensor
    heads: Heads

    def pick(self, values: Tensor) -> Tensor:
        """`values` (S, ...) of the states, by step and trajectory, (T + 1, B, ...)."""
        return values.index_select(0, self.row.flatten()).view(*self.row.shape, *values.shape[1:])


def gumbel(*shape: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu") -> Tensor:
    """Standard Gumbel noise: the argmax of logits plus it is a sample of their softmax."""
    return -torch.empty(shape, device=device).exponential_(generator=generator).log()


class Policy(Protocol):
    """A network in two parts, so that sampling can keep the first part's outputs for the loss."""

    def features(self, encoded: Tensor) -> Tensor: ...

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...


def rollout(world: GridWorld, model: Policy, noise: Tensor, *, compact: bool | None = None) -> Rollout:
    """Sample trajectories from the policy; only the features keep their gradients, where those are enabled.

    Args:
        noise: Gumbel noise, (B, T, 5).
        compact: encode only the distinct states of the trajectories still alive, which needs their number on the host.
            By default on the CPU only: elsewhere each step would wait for the device, so all B are encoded T + 1 times.
            The trajectories are the same.
    """
    compact = noise.device.type == "cpu" if compact is None else compact
    batch, device = len(noise), noise.device
    state, live = world.start(batch), torch.ones(batch, dtype=torch.bool, device=device)
    row, logits = torch.zeros(batch, dtype=torch.long, device=device), torch.zeros(batch, ACTIONS, device=device)
    everyone = torch.arange(batch, device=device)
    states: list[tuple[Tensor, Tensor, Tensor]] = []
    outputs: list[tuple[Tensor, Tensor, Tensor]] = []
    steps: list[tuple[Tensor, ...]] = []
    seen = 0
    for t in range(world.max_moves + 1):
        who, which, distinct = _distinct(world, state, live) if compact else (everyone, everyone, state)
        features = model.features(world.encode(distinct))
        with torch.no_grad():
            out = model.heads(features)
        states.append((features, *distinct))
        outputs.append(out)
        row = row.index_copy(0, who, seen + which)
        logits = logits.index_copy(0, who, out[0].index_select(0, which))
        action = (logits + noise[:, t]).argmax(1) if t < world.max_moves else torch.full_like(row, STOP)
        steps.append((row, action, state.position, live))
        seen += len(features)
        live = live & (action != STOP)
        if compact and not live.any():
            break
        state = world.step(state, action, live)
    features, visits, cells = (torch.cat(column) for column in zip(*states, strict=True))
    met = State(visits, cells)
    rows, actions, positions, lives = (torch.stack(column) for column in zip(*steps, strict=True))
    known = world.parents(met), world.forced(met)
    return Rollout(features, *known, rows, actions, positions, lives, state.visits, Heads.join(outputs))


def _distinct(world: GridWorld, state: State, live: Tensor) -> tuple[Tensor, Tensor, State]:
    """The live trajectories, which distinct state each is in, and those states."""
    who = live.nonzero().squeeze(1)
    keys, which = torch.unique(world.key(state)[who], return_inverse=True)
    one_of_them = torch.empty_like(keys).scatter_(0, which, who)
    return who, which, state.at(one_of_them)


def only_stop(logits: Tensor, forced: Tensor) -> Tensor:
    stop = torch.full_like(logits[:1], NEVER)
    stop[:, STOP] = 0
    return torch.where(forced, stop, logits)
