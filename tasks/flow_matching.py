"""Losses of trajectories in a GridWorld: what the paper describes, and what its released code computes.

Source:      arXiv:2505.13196, section 5 (GFlowNet); `released_...`: the authors' released code, faults included.
Deviations:  see `vrcli.tasks.gflownet`.
Shapes:      T steps at most, B trajectories, S distinct states visited; heads (S, ...); by step (T + 1, B)
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vrcli.tasks.gridworld import ACTIONS, NEVER, STOP, GridWorld, Heads, Rollout, only_stop


def flow_matching(world: GridWorld, r: Rollout, heads: Heads, reward: Tensor) -> Tensor:
    """L_FM of each trajectory, (B,).

    Sum over moves s -> s' of (F(s) P_F(s'|s) - F(s') P_B(s|s'))^2, plus (F(s) P_F(stop|s) - R(s))^2 of the last state.

    Args:
        reward: of the final states, (B,).
    """
    policy = only_stop(heads.policy, r.forced).softmax(1)
    backward = heads.backward.masked_fill(~r.parents, NEVER).softmax(1)
    flow = r.pick(heads.flow)  # (T + 1, B)
    taken = (r.pick(policy) * world.alike(r.position, r.action)).sum(-1)
    origin = world.origin(r.position[:-1], r.action[:-1])
    back = (r.pick(backward)[1:] * _one_hot(origin)).sum(-1)  # (T, B)
    out_flow = flow * taken
    moves = (out_flow[:-1] - flow[1:] * back).square() * r.live[1:]
    stops = (out_flow - reward).square() * (r.live & (r.action == STOP))
    return moves.sum(0) + stops.sum(0)


def policy_entropy(r: Rollout, heads: Heads) -> Tensor:
    """Mean entropy of P_F over the visited states that leave a choice, in nats."""
    counted = r.live & ~r.pick(r.forced).squeeze(-1)
    return (r.pick(_entropy(heads)) * counted).sum() / counted.sum()


def released_flow_matching(world: GridWorld, r: Rollout, heads: Heads, reward: Tensor) -> Tensor:
    """What the released code computes in place of `flow_matching`, faults included; its mean is L_FM, (B,).

    With the n steps of the whole batch, its trajectories b and c, states s_0 .. s_n and actions a_0 .. a_(n-1):
    L_FM = mean_b (F(s_n) - R)^2
           + sum over i < n - 1 of mean_(b, c) (F(s_i)[b] P_F(a_i|s_i)[c] - F(s_(i+2))[b] P_B(a_(i+1)|s_(i+2))[c])^2.
    So forward flow i meets backward flow i + 1, flows meet the probabilities of all trajectories and nothing is masked.
    A trajectory that has ended stays in its state and goes on drawing actions until the last one ends.
    """
    r = _steps_of_batch(world, r)
    flow = r.pick(heads.flow)  # (n + 1, B)
    forward_p = (r.pick(heads.policy.softmax(1))[:-1] * _one_hot(r.action)).sum(-1)  # (n, B)
    backward_p = (r.pick(heads.backward.softmax(1))[1:] * _one_hot(r.action)).sum(-1)
    forward = flow[:-1, :, None] * forward_p[:, None, :]  # (n, B, B)
    backward = flow[1:, :, None] * backward_p[:, None, :]
    running = r.live[1:].any(1)
    moves = (forward[:-1] - backward[1:]).square().mean(2) * running[:, None]
    return moves.sum(0) + (flow[-1] - reward).square()


def released_entropy(world: GridWorld, r: Rollout, heads: Heads) -> Tensor:
    """The released code's entropy term: the sum over s_0 .. s_(n-1) of the batch mean, in nats; ended ones count."""
    r = _steps_of_batch(world, r)
    return (r.pick(_entropy(heads))[:-1].mean(1) * r.live.any(1)).sum()


def _steps_of_batch(world: GridWorld, r: Rollout) -> Rollout:
    """The n steps as the released code counts them: `row` (n + 1, B), `action` and `live` (n, B).

    Each step is a move or a stop, so a stop leads to one more state, and at the limit no stop is drawn. Without
    compaction n is the limit, and the steps in which no trajectory is alive must not count.
    """
    action, live = r.action[: world.max_moves], r.live[: world.max_moves]
    return replace(r, row=torch.cat([r.row, r.row[-1:]])[: len(action) + 1], action=action, live=live)


def _entropy(heads: Heads) -> Tensor:
    logp = heads.policy.log_softmax(1)
    return -(logp.exp() * logp).sum(1)  # (S,)


def _one_hot(index: Tensor) -> Tensor:
    return index[..., None] == torch.arange(ACTIONS, device=index.device)
