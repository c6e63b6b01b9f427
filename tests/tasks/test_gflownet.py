"""The gflownet task against an independent slow implementation, and against exact enumeration on tiny grids."""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vrcli.tasks.base import TaskError
from vrcli.tasks.flow_matching import flow_matching, policy_entropy, released_entropy, released_flow_matching
from vrcli.tasks.gflownet import GFlowNet, diversity
from vrcli.tasks.gridworld import ACTIONS, ORIGINS, STOP, GridWorld, Heads, Rollout, State, gumbel, rollout

_spec = importlib.util.spec_from_file_location("slow_gridworld", Path(__file__).with_name("slow_gridworld.py"))
slow_gridworld = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)  # dataclasses look their module up
_spec.loader.exec_module(slow_gridworld)
SlowWorld, Place = slow_gridworld.SlowWorld, slow_gridworld.Place


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- helpers ----------------------------------------------------------------------------------------------------------


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def task(**settings: object) -> GFlowNet:
    small = {"grid_size": 3, "max_moves": 5, "width": 2, "hidden": 8, "train_trajectories": 16, "eval_trajectories": 40}
    return GFlowNet(GFlowNet.Config(**{**small, **settings}))


def lively(made: GFlowNet, seed: int = 0) -> nn.Module:
    """A network whose outputs differ clearly from state to state, unlike those at initialisation."""
    torch.manual_seed(seed)
    model = made.model(made.data(generator()))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0.0, 0.1 if name.endswith("bias") else 1.5 * parameter[0].numel() ** -0.5)
        model.policy[-1].bias[STOP] -= 0.5
    return model


def place(world: GridWorld, visits: Tensor, position: Tensor) -> Place:
    cells = [(divmod(i, world.size), int(n)) for i, n in enumerate(visits.tolist()) if n]
    return Place(tuple(cells), divmod(int(position), world.size))


def tensors(slow: SlowWorld, states: list[Place]) -> State:
    visits = [[dict(s.counts).get(cell, 0) for cell in slow.cells] for s in states]
    return State(torch.tensor(visits).float(), torch.tensor([slow.cells.index(s.at) for s in states]))


def asked(slow: SlowWorld, model: nn.Module):
    """What the model says of one state, asked alone."""

    def outputs(state: Place):
        with torch.no_grad():
            policy, backward, flow = model(torch.tensor([slow.encode(state)]))
        return policy[0].double().softmax(0).tolist(), backward[0].tolist(), flow.item()

    return outputs


def played(slow: SlowWorld, sampled: Rollout) -> list[list[Place]]:
    return [slow.play(column.tolist()) for column in sampled.action.T]


# -- the environment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_steps_rewards_and_encoding_are_those_of_one_agent_at_a_time(size: int, marked: bool):
    world, slow = GridWorld(size, 30, marked_start=marked), SlowWorld(size, 30, marked_start=marked)
    state, places = world.start(12), [slow.start()] * 12
    for _ in range(30):
        action = torch.randint(0, 4, (12,), generator=generator(int(state.visits.sum())))
        moving = torch.rand(12, generator=generator(int(state.position.sum()))) < 0.8
        state = world.step(state, action, moving)
        places = [slow.move(p, a) if m else p for p, a, m in zip(places, action.tolist(), moving.tolist(), strict=True)]
        assert [place(world, v, p) for v, p in zip(*state, strict=True)] == places
        torch.testing.assert_close(world.reward(state.visits), torch.tensor([slow.reward(p) for p in places]))
        assert torch.equal(world.encode(state), torch.tensor([slow.encode(p) for p in places]))


def test_reward_of_a_known_pattern():
    #  # # #      lines 2 (top row, middle column), coverage 5/9, efficiency 5/6,
    #  . # .      rows mirrored up-down: 5 of 9 cells agree (middle row and middle column), left-right: all
    #  . # .
    visits = torch.tensor([[1.0, 1, 1, 0, 2, 0, 0, 1, 0]])
    expected = 10 * 2 / 10 + 5 * 5 / 9 + 3 * 5 / 6 + 4 * (5 / 9 + 1) / 2
    assert GridWorld(3, 9).reward(visits).item() == pytest.approx(expected)


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize(("size", "moves"), [(2, 4), (3, 4), (4, 3)])
def test_states_are_graded_and_no_parent_is_missed(size: int, moves: int, marked: bool):
    world, slow = GridWorld(size, moves, marked_start=marked), SlowWorld(size, moves, marked_start=marked)
    layers = slow.everything()
    assert sum(map(len, layers)) == len(set().union(*layers)), "a state is met at two depths"
    true: dict[Place, set[int]] = {}
    for state in itertools.chain(*layers[:-1]):
        for action in range(4):
            after = slow.move(state, action)
            true.setdefault(after, set()).add(slow.origin(state, after))
    states = [s for layer in layers[1:] for s in layer]
    allowed = world.parents(tensors(slow, states))
    for state, mask in zip(states, allowed.tolist(), strict=True):
        assert true[state] <= {i for i in range(ORIGINS) if mask[i]}
        assert len(slow.parents(state)) == sum(mask)
    assert not world.parents(world.start(1)).any()


def test_hash_tells_states_apart():
    slow = SlowWorld(3, 6)
    states = [s for layer in slow.everything() for s in layer]
    assert len(set(GridWorld(3, 6).key(tensors(slow, states)).tolist())) == len(states) == 2021


# -- trajectories -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "moves"), [(2, 3), (3, 5), (5, 9)])
def test_rollout_and_loss_equal_the_slow_implementation(size: int, moves: int):
    made = task(grid_size=size, max_moves=moves, reward_temperature=1.5)
    world, slow, model = made.world(torch.device("cpu")), SlowWorld(size, moves), lively(made)
    noise = gumbel(24, moves, ACTIONS, generator=generator(size))
    sampled, outputs = rollout(world, model, noise), asked(slow, model)
    trajectories = played(slow, sampled)

    for b, states in enumerate(trajectories):
        for t, state in enumerate(states[:moves]):
            logits = torch.tensor(outputs(state)[0]).log() + noise[b, t]
            assert int(logits.argmax()) == int(sampled.action[t, b])
        assert place(world, sampled.visits[b], sampled.position[-1, b]) == states[-1]
        assert int(sampled.live[:, b].sum()) == len(states)
    lengths = {len(states) for states in trajectories}
    assert len(lengths) > 2
    assert moves + 1 in lengths, "no trajectory reached the limit"

    target = made.target(world.reward(sampled.visits), training=True)
    found = flow_matching(world, sampled, sampled.heads, target)
    expected = [slow.flow_matching(states, outputs, 1.5) for states in trajectories]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=2e-4, atol=1e-4)
    entropies = list(itertools.chain.from_iterable(slow.entropies(states, outputs) for states in trajectories))
    assert policy_entropy(sampled, sampled.heads).item() == pytest.approx(sum(entropies) / len(entropies), rel=1e-4)


def test_training_loss_is_the_weighted_sum():
    made = task(flow_weight=0.7, reward_weight=0.3, entropy_weight=0.2)
    slow, model = SlowWorld(3, 5), lively(made)
    torch.manual_seed(11)
    loss = made.loss(model, (torch.arange(16),))
    torch.manual_seed(11)
    sampled = rollout(made.world(torch.device("cpu")), model, gumbel(16, 5, ACTIONS))
    outputs, trajectories = asked(slow, model), played(slow, sampled)
    flow = sum(slow.flow_matching(s, outputs, 1.0) for s in trajectories) / 16
    reward = sum(slow.reward(s[-1]) for s in trajectories) / 16
    entropies = list(itertools.chain.from_iterable(slow.entropies(s, outputs) for s in trajectories))
    expected = 0.7 * flow - 0.3 * reward - 0.2 * sum(entropies) / len(entropies)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_reward_term_has_no_gradient():
    gradients, losses = [], []
    for weight in (0.0, 5.0):
        made = task(reward_weight=weight)
        model = lively(made)
        torch.manual_seed(3)
        loss = made.loss(model, (torch.arange(16),))
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad for p in model.parameters()])
    assert losses[0] - losses[1] > 5
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_every_distinct_state_is_encoded_once_and_only_live_trajectories_step():
    made = task(grid_size=3, max_moves=6)
    model, world = lively(made), made.world(torch.device("cpu"))
    encoded: list[Tensor] = []
    model.convolutions.register_forward_pre_hook(lambda module, inputs: encoded.append(inputs[0]))
    torch.manual_seed(1)
    made.loss(model, (torch.arange(50),))
    states = torch.cat(encoded)
    torch.manual_seed(1)
    sampled = rollout(world, model, gumbel(50, 6, ACTIONS))
    visited = Counter(itertools.chain.from_iterable(played(SlowWorld(3, 6), sampled)))
    assert len(states) == len(torch.unique(states, dim=0)) == len(visited)
    assert sum(visited.values()) == int(sampled.live.sum()) > 1.5 * len(visited)


def test_compaction_changes_nothing():
    made = task(grid_size=4, max_moves=7)
    model, world = lively(made), made.world(torch.device("cpu"))
    noise = gumbel(30, 7, ACTIONS, generator=generator(2))
    compact, full = (rollout(world, model, noise, compact=c) for c in (True, False))
    steps = len(compact.action)
    assert len(full.features) == 8 * 30 > len(compact.features)
    assert torch.equal(compact.live, full.live[:steps])
    assert not full.live[steps:].any()
    assert torch.equal(compact.action[compact.live], full.action[:steps][compact.live])
    for loss in (flow_matching, released_flow_matching):
        a, b = (loss(world, r, r.heads, world.reward(r.visits)) for r in (compact, full))
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    a, b = (released_entropy(world, r, r.heads) for r in (compact, full))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


class NoHostReads(TorchDispatchMode):
    """Fails at whatever needs a value of a tensor on the host, which would make a GPU wait."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(name in str(func) for name in ("_local_scalar_dense", "nonzero", "unique", "masked_select"))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_without_compaction_nothing_is_read_back():
    made = task()
    model, world = lively(made), made.world(torch.device("cpu"))
    noise = gumbel(20, 5, ACTIONS, generator=generator(4))
    with NoHostReads():
        sampled = rollout(world, model, noise, compact=False)
        reward = made.target(world.reward(sampled.visits), training=True)
        flow_matching(world, sampled, sampled.heads, reward)
        released_flow_matching(world, sampled, sampled.heads, reward)
        policy_entropy(sampled, sampled.heads)
        released_entropy(world, sampled, sampled.heads)
    with pytest.raises(AssertionError), NoHostReads():
        rollout(world, model, noise, compact=True)


def test_states_after_the_end_do_not_count():
    made = task()
    model, world = lively(made), made.world(torch.device("cpu"))
    sampled = rollout(world, model, gumbel(20, 5, ACTIONS, generator=generator(4)), compact=False)
    heads = Heads(*(torch.clone(h).requires_grad_() for h in vars(sampled.heads).values()))
    reward = world.reward(sampled.visits)
    before = flow_matching(world, sampled, heads, reward)
    (before.sum() + policy_entropy(sampled, heads)).backward()
    dead = ~sampled.live.flatten()
    assert dead.any()
    for head in vars(heads).values():
        assert not head.grad[dead].any()
        assert head.grad[~dead].any()
    noisy = Heads(*(torch.where(dead.view(-1, *[1] * (h.ndim - 1)), h + 3, h) for h in vars(heads).values()))
    assert torch.equal(flow_matching(world, sampled, noisy, reward), before)


def test_stop_is_certain_at_the_limit():
    made = task(max_moves=1)
    model, world = lively(made), made.world(torch.device("cpu"))
    sampled = rollout(world, model, torch.zeros(1, 1, ACTIONS).index_fill_(2, torch.tensor([STOP]), -50.0))
    heads = sampled.heads
    first, last = sampled.row[:, 0].tolist()
    reward = world.reward(sampled.visits)
    move = (heads.flow[first] * heads.policy[first].softmax(0)[sampled.action[0, 0]] - heads.flow[last]).square()
    expected = move + (heads.flow[last] - reward[0]).square()
    assert flow_matching(world, sampled, heads, reward)[0].item() == pytest.approx(expected.item(), rel=1e-5)


# -- exact enumeration ------------------------------------------------------------------------------------------------


class Tabular(nn.Module):
    """Free policy logits, backward logits and log-flow of every state of a tiny grid, looked up by the encoding."""

    def __init__(self, world: GridWorld, slow: SlowWorld) -> None:
        super().__init__()
        layers = [sorted(layer, key=repr) for layer in slow.everything()]
        self.states = list(itertools.chain(*layers))
        self.index = {s: i for i, s in enumerate(self.states)}
        keys, order = world.key(tensors(slow, self.states)).sort()
        self.world, self.keys, self.order = world, keys, order
        n = len(self.states)
        self.policy = nn.Parameter(torch.zeros(n, ACTIONS))
        self.backward_policy = nn.Parameter(torch.zeros(n, ORIGINS))
        self.log_flow = nn.Parameter(torch.zeros(n))
        self.reached = torch.full((n, ORIGINS), -1e9)  # the parents that some trajectory reaches
        for layer in layers[:-1]:
            for state in layer:
                for action in range(4):
                    after = slow.move(state, action)
                    self.reached[self.index[after], slow.origin(state, after)] = 0.0

    def features(self, encoded: Tensor) -> Tensor:
        return encoded

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat = features.flatten(2)
        key = self.world.key(State(flat[:, 2], flat[:, 1].argmax(1)))
        i = self.order[torch.searchsorted(self.keys, key)]
        return self.policy[i], self.backward_policy[i] + self.reached[i], self.log_flow[i].exp()


def solve(model: Tabular, slow: SlowWorld, seed: int) -> list[float]:
    """Set the exact flows for a random backward policy; returns R(s) / Z by state.

    F(s) = R(s) + sum over children s' of F(s') P_B(s|s'), from the deepest states upwards.
    """
    with torch.no_grad():
        model.backward_policy.copy_(torch.randn(model.backward_policy.shape, generator=generator(seed)))
        backward = (model.backward_policy + model.reached).double().softmax(1)
        rewards = [slow.reward(s) for s in model.states]
        flow = list(rewards)
        for i in reversed(range(len(model.states))):
            state = model.states[i]
            weights = [0.0] * 4 + [rewards[i]]
            if slow.made(state) < slow.max_moves:
                afters = [slow.move(state, a) for a in range(4)]
                for a, after in enumerate(afters):
                    j = model.index[after]
                    edge = flow[j] * backward[j, slow.origin(state, after)].item()
                    weights[a] = edge / afters.count(after)  # two moves into a corner share one edge
            flow[i] = sum(weights)
            model.policy[i] = torch.tensor(weights).clamp(min=1e-30).log()
            model.log_flow[i] = math.log(flow[i])
    z = sum(rewards)
    assert flow[0] == pytest.approx(z)
    return [r / z for r in rewards]


def finals(model: Tabular, sampled: Rollout) -> list[int]:
    ends = zip(sampled.visits, sampled.position[-1], strict=True)
    return [model.index[place(model.world, v, p)] for v, p in ends]


@pytest.mark.parametrize(("size", "moves", "marked"), [(2, 3, True), (2, 4, True), (3, 3, True), (2, 4, False)])
def test_exact_flows_have_no_loss_and_sample_the_reward(size: int, moves: int, marked: bool):
    n = 20_000
    world, slow = GridWorld(size, moves, marked_start=marked), SlowWorld(size, moves, marked_start=marked)
    model = Tabular(world, slow)
    share = solve(model, slow, seed=size + moves)
    sampled = rollout(world, model, gumbel(n, moves, ACTIONS, generator=generator(0)))
    loss = flow_matching(world, sampled, sampled.heads, world.reward(sampled.visits))
    assert loss.max() < 1e-5
    counts = Counter(finals(model, sampled))
    expected = [n * p for p in share]
    observed = [counts[i] for i in range(len(share))]
    assert min(expected) > 5
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    flat = [n / len(share)] * len(share)
    assert stats.chisquare(observed, flat).pvalue < 1e-6, "the test could not tell rewards from a uniform distribution"


@pytest.mark.parametrize("spoil", ["policy", "backward_policy", "log_flow"])
def test_wrong_flows_have_a_loss(spoil: str):
    world, slow = GridWorld(2, 4), SlowWorld(2, 4)
    model = Tabular(world, slow)
    solve(model, slow, seed=0)
    with torch.no_grad():
        getattr(model, spoil).add_(torch.randn(getattr(model, spoil).shape, generator=generator(1)), alpha=0.3)
    sampled = rollout(world, model, gumbel(200, 4, ACTIONS, generator=generator(0)))
    assert flow_matching(world, sampled, sampled.heads, world.reward(sampled.visits)).mean() > 1


def test_minimising_the_loss_of_random_trajectories_approaches_the_reward():
    # On its own trajectories even a table learns to stop at once, where the loss is small too; see the task's header.
    n, world, slow = 20_000, GridWorld(2, 3), SlowWorld(2, 3)
    model, anyhow = Tabular(world, slow), Tabular(world, slow)
    share = torch.tensor(solve(Tabular(world, slow), slow, seed=0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)

    def measure() -> tuple[float, float]:
        sampled = rollout(world, model, gumbel(n, 3, ACTIONS, generator=generator(1)))
        drawn = torch.bincount(torch.tensor(finals(model, sampled)), minlength=len(share)) / n
        loss = flow_matching(world, sampled, sampled.heads, world.reward(sampled.visits)).mean()
        return loss.item(), 0.5 * (drawn - share).abs().sum().item()

    before = measure()
    for step in range(600):
        sampled = rollout(world, anyhow, gumbel(128, 3, ACTIONS, generator=generator(step)))
        heads = Heads(*model.heads(sampled.features))
        optimizer.zero_grad()
        flow_matching(world, sampled, heads, world.reward(sampled.visits)).mean().backward()
        optimizer.step()
        schedule.step()
    after = measure()
    assert after[0] < 0.01 < 10 < before[0]
    assert after[1] < 0.03 < 0.3 < before[1]


# -- evaluation -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_evaluation_counts_what_it_says():
    made = task(grid_size=3, max_moves=5, eval_trajectories=40)
    model, data, slow = lively(made), made.data(generator()), SlowWorld(3, 5)
    torch.manual_seed(1)
    found = made.evaluate(model, data.val)
    torch.manual_seed(2)
    assert made.evaluate(model, data.val) == found, "the noise is the split's, not the global generator's"
    assert made.evaluate(model, data.test) != found
    sampled = rollout(made.world(torch.device("cpu")), model, data.val.tensors[0])
    trajectories, outputs = played(slow, sampled), asked(slow, model)
    losses = [slow.flow_matching(s, outputs, 1.0) for s in trajectories]
    rewards = [slow.reward(s[-1]) for s in trajectories]
    grids = [frozenset(cell for cell, _ in s[-1].counts) for s in trajectories]
    pairs = [len(a ^ b) for a, b in itertools.combinations(grids, 2)]
    spread = math.sqrt(sum((x - sum(losses) / 40) ** 2 for x in losses) / 39)
    assert found == pytest.approx(
        {
            "loss": sum(losses) / 40, "loss_se": spread / math.sqrt(40), "reward": sum(rewards) / 40,
            "reward_max": max(rewards), "diversity": sum(pairs) / len(pairs),
            "length": sum(len(s) - 1 for s in trajectories) / 40, "distinct": len(set(grids)),
        },
        rel=1e-3,
    )  # fmt: skip


@torch.no_grad()
def test_standard_error_is_the_spread_of_repeated_evaluations():
    made = task(eval_trajectories=100)
    model = lively(made)
    found = [made.evaluate(model, made.data(generator(seed)).val) for seed in range(60)]
    spread = torch.tensor([f["loss"] for f in found]).std().item()
    typical = sum(f["loss_se"] for f in found) / len(found)
    # The sample deviation of 60 values is within 25% of the truth in 99 of 100 cases.
    assert spread == pytest.approx(typical, rel=0.25)


def test_diversity_of_identical_and_of_opposite_grids():
    same = torch.ones(4, 9, dtype=torch.bool)
    assert diversity(same).item() == 0
    assert diversity(torch.stack([same[0], ~same[0]])).item() == 9


def test_autocast_keeps_the_gradients():
    made = task()
    model = lively(made)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(0)
        loss = made.loss(model, (torch.arange(16),))
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_artifact_only_at_the_end():
    made = task()
    model = lively(made)
    with torch.no_grad():
        assert made.artifacts(model, epoch=1, last=False) == {}
        torch.manual_seed(0)
        text = made.artifacts(model, epoch=2, last=True)["grids.txt"].decode()
    assert text.splitlines()[0].startswith("256 trajectories after epoch 2")
    assert "highest reward" in text
    assert all(
        len(line) <= 100 and set(line) <= set("#.@ ") for line in text.splitlines() if line.startswith((".", "#"))
    )


def test_other_data_sets_are_refused():
    with pytest.raises(TaskError, match="cifar10"):
        task(dataset="cifar10").data(generator())


def test_training_halves_the_loss():
    made = task()
    data = made.data(generator())
    torch.manual_seed(0)
    model = made.model(data)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def measure() -> float:
        with torch.no_grad():
            return made.evaluate(model, data.val)["loss"]

    before = measure()
    for step in range(40):
        torch.manual_seed(step)
        optimizer.zero_grad()
        made.loss(model, (torch.arange(32),)).backward()
        optimizer.step()
    assert measure() < before / 2
