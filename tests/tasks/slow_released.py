"""What the authors' released code computes on given trajectories, in plain Python loops: one state, one pair at a time.

Written from a description of that code alone; nothing of the task is used but the number of its actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

STEP = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right; 4 is stop

#: Policy probabilities, backward probabilities and flow of one encoded state.
Outputs = tuple[Sequence[float], Sequence[float], float]


@dataclass
class Agent:
    """One trajectory, which stays where it is once it has ended."""

    size: int
    limit: int
    steps: int = 0
    ended: bool = False
    marked: list[list[int]] = field(default_factory=list)
    visits: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.row = self.column = self.size // 2  # row 4, column 4 of 8 x 8
        self.marked = [[0] * self.size for _ in range(self.size)]
        self.visits = [[0] * self.size for _ in range(self.size)]

    def act(self, action: int) -> None:
        if self.ended:
            return
        self.steps += 1
        if action < 4:
            row, column = self.row + STEP[action][0], self.column + STEP[action][1]
            if 0 <= row < self.size and 0 <= column < self.size:
                self.row, self.column = row, column
            self.marked[self.row][self.column] = 1
            self.visits[self.row][self.column] += 1
        self.ended = action == 4 or self.steps == self.limit

    def encode(self) -> list[list[list[float]]]:
        here = [[float((r, c) == (self.row, self.column)) for c in range(self.size)] for r in range(self.size)]
        return [[list(map(float, line)) for line in self.marked], here, [list(map(float, v)) for v in self.visits]]

    def reward(self) -> float:
        n, grid = self.size, self.marked
        runs = 0
        for r in range(n):
            for c in range(n):
                runs += c + 2 < n and grid[r][c] + grid[r][c + 1] + grid[r][c + 2] == 3
                runs += r + 2 < n and grid[r][c] + grid[r + 1][c] + grid[r + 2][c] == 3
        cells = [(r, c) for r in range(n) for c in range(n)]
        coverage = sum(grid[r][c] for r, c in cells) / n**2
        efficiency = sum(self.visits[r][c] > 0 for r, c in cells) / (sum(map(sum, self.visits)) + 1e-6)
        horizontal = 1 - sum(abs(grid[r][c] - grid[r][n - 1 - c]) for r, c in cells) / n**2
        vertical = 1 - sum(abs(grid[r][c] - grid[n - 1 - r][c]) for r, c in cells) / n**2
        return runs + 5 * coverage + 3 * efficiency + 4 * (horizontal + vertical) / 2


@dataclass
class Played:
    """A batch of trajectories with what a network says of each state.

    Args:
        actions: a_0 .. a_(n-1) of each trajectory, those after its end too.
        said: of s_0 .. s_n of each trajectory.
        encoded: the same states.
        agents: at the end.
    """

    actions: list[list[int]]
    said: list[list[Outputs]]
    encoded: list[list[list[list[list[float]]]]]
    agents: list[Agent]

    @property
    def n(self) -> int:
        return len(self.actions[0])

    def rewards(self) -> list[float]:
        return [agent.reward() for agent in self.agents]

    def flow_matching(self, temperature: float) -> float:
        """L_FM, with the reward divided by the temperature."""
        batch = len(self.agents)
        total = 0.0
        for b in range(batch):
            total += (self.said[b][self.n][2] - self.agents[b].reward() / temperature) ** 2 / batch
        for i in range(self.n - 1):  # i = 0 .. n - 2
            for b in range(batch):
                for c in range(batch):
                    forward = self.said[b][i][2] * self.said[c][i][0][self.actions[c][i]]
                    backward = self.said[b][i + 2][2] * self.said[c][i + 2][1][self.actions[c][i + 1]]
                    total += (forward - backward) ** 2 / batch**2
        return total

    def entropy(self) -> float:
        total = 0.0
        for i in range(self.n):
            for said in self.said:
                total -= sum(p * math.log(p) for p in said[i][0]) / len(self.said)
        return total

    def loss(self, flow: float, reward: float, entropy: float, temperature: float) -> float:
        mean = sum(self.rewards()) / len(self.agents)
        return flow * self.flow_matching(temperature) - reward * mean / temperature - entropy * self.entropy()


def play(size: int, limit: int, drawn: Sequence[Sequence[int]], network: Callable[..., Outputs]) -> Played:
    """Run a batch until its last trajectory has ended.

    Args:
        drawn: at least `limit` actions of each trajectory.
    """
    agents = [Agent(size, limit) for _ in drawn]
    encoded = [[agent.encode()] for agent in agents]
    n = 0
    while not all(agent.ended for agent in agents):
        for b, agent in enumerate(agents):
            agent.act(drawn[b][n])
            encoded[b].append(agent.encode())
        n += 1
    said = [[network(state) for state in states] for states in encoded]
    return Played([list(actions[:n]) for actions in drawn], said, encoded, agents)
