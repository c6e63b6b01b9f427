"""The released preset of gflownet, term by term, against plain loops over given trajectories; see `slow_released`."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vrcli.tasks.flow_matching import released_entropy, released_flow_matching
from vrcli.tasks.gflownet import GFlowNet
from vrcli.tasks.gridworld import ACTIONS, CHANNELS, ORIGINS, GridWorld, Heads, gumbel, rollout

_spec = importlib.util.spec_from_file_location("slow_released", Path(__file__).with_name("slow_released.py"))
slow_released = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)  # dataclasses look their module up
_spec.loader.exec_module(slow_released)
play, Played = slow_released.play, slow_released.Played

EXACT = {"rel": 1e-12, "abs": 1e-12}
U, D, L, R, S = range(5)

#: Actions of each trajectory, those after its end too; limit 5 on 4 x 4 cells.
BATCHES = {
    "all stop at once": [[S, U, U, U, U], [S, S, D, D, D], [S, L, L, S, L]],
    "one stops last": [[S, U, R, D, U], [U, U, U, S, L], [L, S, S, R, S], [R, S, D, L, L]],
    "one reaches the limit": [[R, R, R, D, L], [S, D, R, U, S], [D, S, S, R, L]],
    "one stops at the limit": [[R, D, L, U, S], [U, S, R, R, R], [S, R, S, U, D]],
    "a single trajectory": [[D, L, L, S, U]],
}


class Small(nn.Module):
    """Random linear heads on the encoded state, in float64; in float32 where actions are drawn from them."""

    def __init__(self, size: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(CHANNELS * size**2, ACTIONS + ORIGINS + 1, generator=generator, dtype=torch.float64)
        self.weights = nn.Parameter(0.4 * weights)

    def features(self, encoded: Tensor) -> Tensor:
        return encoded.flatten(1)

    def exact(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        policy, backward, flow = (features.double() @ self.weights).split((ACTIONS, ORIGINS, 1), 1)
        return policy, backward, 3 * F.softplus(flow.squeeze(1))

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        policy, backward, flow = self.exact(features)
        return policy.float(), backward.float(), flow.float()

    @torch.no_grad()
    def __call__(self, encoded: list[list[list[float]]]) -> slow_released.Outputs:
        policy, backward, flow = self.exact(torch.tensor([encoded]).flatten(1))
        return policy[0].softmax(0).tolist(), backward[0].softmax(0).tolist(), flow.item()


def task(**settings: object) -> GFlowNet:
    small = {"grid_size": 4, "max_moves": 5, "eval_trajectories": 12, "marked_start": False, "released_loss": True}
    return GFlowNet(GFlowNet.Config(**{**small, **settings}))


def certain(drawn: list[list[int]]) -> Tensor:
    """Noise with which the policy draws just these actions."""
    return 1e6 * F.one_hot(torch.tensor(drawn), ACTIONS).float()


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("name", BATCHES)
@torch.no_grad()
def test_each_term_is_that_of_plain_loops(name: str, compact: bool):
    drawn, made, model = BATCHES[name], task(reward_temperature=2.5), Small(4)
    world, slow = made.world(torch.device("cpu")), play(4, 5, drawn, model)
    sampled = rollout(world, model, certain(drawn), compact=compact)
    heads, reward = Heads(*model.exact(sampled.features)), world.reward(sampled.visits.double())

    for i, b in itertools.product(range(min(len(sampled.row), slow.n + 1)), range(len(drawn))):
        encoded = sampled.features[sampled.row[i, b]].view(CHANNELS, 4, 4)
        assert encoded.tolist() == slow.encoded[b][i], "an ended trajectory keeps its state"
    assert sampled.action[: slow.n].T.tolist() == slow.actions, "an ended trajectory goes on drawing actions"
    assert reward.tolist() == pytest.approx(slow.rewards(), **EXACT)
    for training, temperature in ((True, 2.5), (False, 1.0)):
        found = released_flow_matching(world, sampled, heads, made.target(reward, training=training))
        assert found.mean().item() == pytest.approx(slow.flow_matching(temperature), **EXACT)
    assert released_entropy(world, sampled, heads).item() == pytest.approx(slow.entropy(), **EXACT)


@torch.no_grad()
def test_each_term_on_the_papers_grid():
    generator = torch.Generator().manual_seed(1)
    drawn = torch.multinomial(torch.tensor([1.0, 1, 1, 1, 0.2]), 8 * 64, replacement=True, generator=generator)
    rows, model, world = drawn.view(8, 64).tolist(), Small(8), GridWorld(8, 64, marked_start=False)
    slow, sampled = play(8, 64, rows, model), rollout(world, model, certain(rows))
    heads, reward = Heads(*model.exact(sampled.features)), world.reward(sampled.visits.double())
    assert 20 < slow.n < 64
    assert reward.tolist() == pytest.approx(slow.rewards(), **EXACT)
    found = released_flow_matching(world, sampled, heads, reward).mean().item()
    assert found == pytest.approx(slow.flow_matching(1.0), **EXACT)
    assert released_entropy(world, sampled, heads).item() == pytest.approx(slow.entropy(), **EXACT)


def test_an_empty_grid_pays_exactly_4():
    world = GridWorld(8, 64, marked_start=False)
    start = world.start(1)
    assert world.reward(start.visits).tolist() == [4.0]
    marks, here, visits = world.encode(start)[0]
    assert not marks.any()
    assert not visits.any()
    assert here.nonzero().tolist() == [[4, 4]]


def sampled_by(noise: Tensor, made: GFlowNet, model: Small) -> Played:
    c = made.config
    sampled = rollout(made.world(torch.device("cpu")), model, noise, compact=False)
    return play(c.grid_size, c.max_moves, sampled.action.T.tolist(), model)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_training_loss_is_the_weighted_sum_of_the_terms(temperature: float):
    weights = {"flow_weight": 0.7, "reward_weight": 0.3, "entropy_weight": 0.2}
    made, model = task(reward_temperature=temperature, **weights), Small(4)
    torch.manual_seed(3)
    found = made.loss(model, (torch.arange(9),)).item()
    torch.manual_seed(3)
    slow = sampled_by(gumbel(9, 5, ACTIONS), made, model)
    assert found == pytest.approx(slow.loss(0.7, 0.3, 0.2, temperature), rel=1e-5)


@torch.no_grad()
def test_evaluation_does_not_divide_the_reward():
    made, model = task(reward_temperature=2.5), Small(4)
    data = made.data(torch.Generator().manual_seed(0))
    for split in (data.val, data.test):
        found, slow = made.evaluate(model, split), sampled_by(split.tensors[0], made, model)
        assert found["loss"] == pytest.approx(slow.flow_matching(1.0), rel=1e-5)
        assert found["reward"] == pytest.approx(sum(slow.rewards()) / 12, rel=1e-5)
        grids = [list(itertools.chain(*agent.marked)) for agent in slow.agents]
        apart = [sum(x != y for x, y in zip(a, b, strict=True)) for a, b in itertools.combinations(grids, 2)]
        assert found["diversity"] == pytest.approx(sum(apart) / len(apart))
        assert found["length"] == pytest.approx(sum(sum(map(sum, agent.visits)) for agent in slow.agents) / 12)
    assert made.evaluate(model, data.val) != made.evaluate(model, data.test)


def test_the_released_preset_says_where_its_numbers_are_from():
    settings = GFlowNet.presets["released"].settings
    assert {name: value.kind for name, value in settings.items() if value.kind != "stated"} == {}
    assert {name: value.value for name, value in settings.items()} == {
        "grid_size": 8, "max_moves": 64, "width": 32, "hidden": 128, "marked_start": False, "released_loss": True,
        "reward_temperature": 1.0, "flow_weight": 1.0, "reward_weight": 1.0, "entropy_weight": 0.01,
        "train_trajectories": 640, "batch_size": 64, "epochs": 50, "eval_trajectories": 100, "schedule": "constant",
    }  # fmt: skip
