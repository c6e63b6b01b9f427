"""GridWorld and the loss of the gflownet task once more, in plain Python: one trajectory, one state at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

DELTAS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right
STOP = 4

#: Policy probabilities, backward logits and flow of one state.
Outputs = tuple[list[float], list[float], float]


@dataclass(frozen=True)
class Place:
    """A state: how often each cell was visited, as sorted items, and where the agent is."""

    counts: tuple[tuple[tuple[int, int], int], ...]
    at: tuple[int, int]


class SlowWorld:
    def __init__(self, size: int, max_moves: int, *, marked_start: bool = True) -> None:
        self.size, self.max_moves, self.marked_start = size, max_moves, marked_start
        self.centre = (size // 2, size // 2)
        self.cells = [(r, c) for r in range(size) for c in range(size)]

    def start(self) -> Place:
        return Place(((self.centre, 1),) if self.marked_start else (), self.centre)

    def made(self, state: Place) -> int:
        """The moves that led to a state."""
        return sum(n for _, n in state.counts) - self.marked_start

    def end(self, at: tuple[int, int], action: int) -> tuple[int, int]:
        r, c = at[0] + DELTAS[action][0], at[1] + DELTAS[action][1]
        return (r, c) if 0 <= r < self.size and 0 <= c < self.size else at

    def move(self, state: Place, action: int) -> Place:
        counts = dict(state.counts)
        at = self.end(state.at, action)
        counts[at] = counts.get(at, 0) + 1
        return Place(tuple(sorted(counts.items())), at)

    def parents(self, state: Place) -> set[Place]:
        """States with counts above 0 wherever an agent has been, from which one move leads to `state`."""
        counts = dict(state.counts)
        counts[state.at] -= 1
        before = tuple(sorted((cell, n) for cell, n in counts.items() if n))
        candidates = {Place(before, cell) for cell in {self.centre, *(cell for cell, _ in before)}}
        found = {p for p in candidates if any(self.move(p, a) == state for a in range(4))}
        return {p for p in found if p.at != self.centre or counts.get(p.at, 0) > self.marked_start or p == self.start()}

    def reward(self, state: Place) -> float:
        marked = {cell for cell, _ in state.counts}
        lines = sum(
            all((r + i * dr, c + i * dc) in marked for i in range(3))
            for r, c in self.cells
            for dr, dc in ((0, 1), (1, 0))
        )
        last = self.size - 1
        mirrors = [
            sum(((r, c) in marked) == (mirror(r, c) in marked) for r, c in self.cells) / len(self.cells)
            for mirror in (lambda r, c: (last - r, c), lambda r, c: (r, last - c))
        ]
        visits = sum(n for _, n in state.counts)
        efficiency = len(marked) / (visits if self.marked_start else visits + 1e-6)
        return 10 * lines / 10 + 5 * len(marked) / len(self.cells) + 3 * efficiency + 4 * sum(mirrors) / 2

    def encode(self, state: Place) -> list[list[list[float]]]:
        counts = dict(state.counts)
        planes: list[Callable[[tuple[int, int]], float]] = [
            lambda cell: float(cell in counts),
            lambda cell: float(cell == state.at),
            lambda cell: float(counts.get(cell, 0)),
        ]
        return [[[plane((r, c)) for c in range(self.size)] for r in range(self.size)] for plane in planes]

    def play(self, actions: Iterable[int]) -> list[Place]:
        """The states that the actions visit, up to the first stop or the limit."""
        states = [self.start()]
        for action in actions:
            if action == STOP or self.made(states[-1]) == self.max_moves:
                break
            states.append(self.move(states[-1], action))
        return states

    def everything(self) -> list[set[Place]]:
        """All states that some trajectory reaches, by number of moves."""
        layers = [{self.start()}]
        for _ in range(self.max_moves):
            layers.append({self.move(s, a) for s in layers[-1] for a in range(4)})
        return layers

    # -- losses -------------------------------------------------------------------------------------------------------

    def step_probability(self, state: Place, successor: Place, policy: list[float]) -> float:
        return sum(policy[a] for a in range(4) if self.move(state, a) == successor)

    def backward_probability(self, parent: Place, state: Place, logits: list[float]) -> float:
        """Softmax over the possible parents; a parent's logit is that of the move that entered, or the last: stayed."""
        weight = {p: math.exp(logits[self.origin(p, state)]) for p in self.parents(state)}
        return weight[parent] / sum(weight.values())

    def origin(self, parent: Place, state: Place) -> int:
        if parent.at == state.at:
            return 4
        return next(a for a in range(4) if self.end(parent.at, a) == state.at)

    def flow_matching(
        self, states: list[Place], outputs: Callable[[Place], Outputs], temperature: float = 1.0
    ) -> float:
        loss = 0.0
        for state, successor in itertools.pairwise(states):
            policy, _, flow = outputs(state)
            _, backward, next_flow = outputs(successor)
            there = flow * self.step_probability(state, successor, policy)
            loss += (there - next_flow * self.backward_probability(state, successor, backward)) ** 2
        policy, _, flow = outputs(states[-1])
        stop = 1.0 if self.made(states[-1]) == self.max_moves else policy[STOP]
        return loss + (flow * stop - self.reward(states[-1]) ** (1 / temperature)) ** 2

    def entropies(self, states: list[Place], outputs: Callable[[Place], Outputs]) -> list[float]:
        chosen = [s for s in states if self.made(s) < self.max_moves]
        return [-sum(p * math.log(p) for p in outputs(s)[0]) for s in chosen]
