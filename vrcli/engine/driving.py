"""What a loop of one's own calls while it trains (see `vrcli.tasks.loop.LoopRun`), and what it has reported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from greenlet import getcurrent
from torch import Tensor, nn

from vrcli.direction import better
from vrcli.engine import checkpoint, divergence, schedules
from vrcli.engine.events import Artifact, Checkpoint, Eval, Event, Every, Started, Status, Steps
from vrcli.engine.kept import captured, plain_value, put_back
from vrcli.engine.points import Points, check_step, measured_once, named
from vrcli.engine.prepare import Prepared, peak_memory_bytes, planned_steps
from vrcli.engine.recorder import BLOCK_SECONDS, Best
from vrcli.engine.seeding import derive, generator, seed_python
from vrcli.errors import UsageError, nearest
from vrcli.optim import registry
from vrcli.tasks.loop import LoopTask

#: How long a loop may go on after it was asked to stop, where it asks for that or writes itself down.
GRACE_S = 1.5


class Left(BaseException):
    """Leaves the loop; carries how the run ended. No `except Exception` catches it."""

    def __init__(self, status: Status, reason: str = "") -> None:
        super().__init__(reason)
        self.status: Status = status
        self.reason = reason


class LoopRun:
    """One run of a loop; implements `vrcli.tasks.loop.LoopRun`.

    Args:
        resume_from: what a `Checkpoint` of a run of the same spec held.
    """

    def __init__(
        self, prepared: Prepared, should_stop: Callable[[], bool], checkpoints: Every | None,
        resume_from: checkpoint.State | None,
    ) -> None:  # fmt: skip
        self.p, self.spec, self.asked_to_stop, self.checkpoints = prepared, prepared.spec, should_stop, checkpoints
        self.training, self.metric = prepared.spec.training, prepared.task.metrics[0]
        self.seed, self.device, self.threads = self.spec.seed, prepared.device, self.spec.threads
        self.optimizer_name = self.spec.optimizer
        self.optimizer_settings: Mapping[str, Any] = dict(self.spec.optimizer_settings)
        self.model: nn.Module | None = None
        self.built: torch.optim.Optimizer | None = None
        self.steps_per_epoch, self.counts_epochs = 1, False
        self.state, self.taken_up = resume_from, resume_from is None
        self.points = Points(longest_s=BLOCK_SECONDS)
        self.best, self.evaluations, self.step = Best(), 0, 0
        self.evaluated = -1
        self.losses, self.last, self.tested = [0.0, 0.0], dict[str, float](), dict[str, float]()
        self.generators: dict[str, torch.Generator] = {}
        self.started, self.first, self.takes_steps = False, 0, False
        self.since_report = (0, 0)
        self.began_at = self.saved_at = time.perf_counter()
        self.saved_step, self.saves, self.asks, self.stop_at = 0, False, False, math.inf
        if resume_from is not None:
            self._take_up(resume_from)

    # -- the outline --------------------------------------------------------------------------------------------------

    def live(self) -> Left:
        """The loop from its begin to its end; how the run ended."""
        value = derive(self.seed, "model")
        torch.manual_seed(value)
        seed_python(value)
        task = cast(LoopTask[Any], self.p.task)  # `prepare_any` made it
        try:
            task.train(self)
        except Left as left:
            return left
        if self.stop_at < math.inf and not self.tested and not self._used_up():
            return Left("interrupted", "interrupted")
        if not self.evaluations:
            raise UsageError(task.unmeasured.format(objective=self.metric.name))
        return Left("completed", self._early())

    def began(self) -> Iterator[Event]:
        """`Started`, once."""
        if not self.started:
            self.started = True
            parameters = sum(p.numel() for p in self._parameters())
            yield Started(parameters, self.steps_per_epoch, self._total(), self.first)

    def _tell(self, events: Iterator[Event]) -> None:
        """Hand events to the listener and wait until it has dealt with each."""
        for event in events:
            for one in (*self.began(), event):
                parent = getcurrent().parent
                assert parent is not None
                parent.switch(one)

    # -- what a loop asks for -----------------------------------------------------------------------------------------

    def optimizer(self, model: nn.Module, *, steps_per_epoch: int = 1) -> torch.optim.Optimizer:
        if self.built is not None:
            raise UsageError("run.optimizer was called already; put all that it trains into one model")
        if steps_per_epoch < 1:
            raise UsageError(f"run.optimizer: steps_per_epoch must be >= 1, got {steps_per_epoch}")
        self.model, self.steps_per_epoch, self.counts_epochs = model, steps_per_epoch, True
        total = self._total()
        built = registry.construct(self.optimizer_name, model, self.optimizer_settings, steps=total)
        self.built, schedule = built, schedules.make(self.training, steps_per_epoch)
        if schedule is not None:
            base = [float(group["lr"]) for group in built.param_groups]

            def follow(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
                share, step = self._share(), self._schedule_step()
                expected = total or (step / share if share else math.inf)
                for group, lr in zip(optimizer.param_groups, base, strict=True):
                    group["lr"] = schedule(lr, step, expected)

            built.register_step_pre_hook(follow)
        return built

    def _schedule_step(self) -> int:
        """The step of the loop that the optimizer is in, from 0 on.

        A loop that counts by itself is in the one after those it reported; where it reports few of them, each step of
        the optimizer since then counts as one.
        """
        if self.takes_steps:
            return self.step - 1
        reported, taken = self.since_report
        self.since_report = (self.step, taken + 1 if reported == self.step else 1)
        return self.step + self.since_report[1] - 1

    def generator(self, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
        key = "/".join(map(str, (*purpose, device)))
        if key not in self.generators:
            self.generators[key] = generator(self.seed, *purpose, device=device)
            if self.state is not None and self.taken_up and key in self.state["named"]:
                self.generators[key].set_state(self.state["named"][key])
        return self.generators[key]

    def steps(self) -> Iterator[int]:
        if self._total() is None and self.training.end.unit == "epochs":
            raise UsageError("run.steps: call run.optimizer(model, steps_per_epoch=...) first, for --epochs")
        self.takes_steps = True
        while not self._used_up() and not self._early():
            self._leave_if_asked(at_once=True)
            self.step += 1
            yield self.step

    def should_stop(self) -> bool:
        self.asks = True
        return self._used_up() or bool(self._early()) or self._asked()

    # -- what a loop reports ------------------------------------------------------------------------------------------

    def log(self, step: int, **values: Tensor | float) -> None:
        self._check_step(step)
        if self.built is not None and "train_loss" in values:
            values = {**values, **self._of_optimizer()}
        self.points.put(step, values)
        self.step = max(self.step, step)
        if self.points.due:
            self._tell(self.flush())
        self._leave_if_asked()

    def evaluate(self, step: int, **values: Tensor | float) -> bool:
        self._check_step(step)
        read = named("val", values)
        objective = f"val_{self.metric.name}"
        if objective not in read:
            hint = nearest(objective, read) or f"; it got {', '.join(read) or 'nothing'}"
            raise UsageError(f"run.evaluate needs the objective, {objective}{hint}")
        if step <= self.evaluated:
            raise UsageError(f"step {self.evaluated} was evaluated already; steps must increase, got {step}")
        self._tell(self.flush())
        self.step, self.evaluated, self.evaluations = max(self.step, step), step, self.evaluations + 1
        epoch = self.step / self.steps_per_epoch
        loss, weight = self.losses
        trained = {"epoch_train_loss": loss / weight} if weight else {}
        self.losses = [0.0, 0.0]
        self.last = {"epoch": epoch, **trained, **read, "wall_s": time.perf_counter() - self.began_at}
        best = better(read[objective], self.best.loss, self.metric.direction)
        if best:
            self._keep_best(read[objective], read, epoch)
        self._tell(iter([Eval(epoch, step, self.last, best, self.evaluations, self._share())]))
        measured = {name.removeprefix("val_"): value for name, value in read.items()}
        if why := divergence.of_evaluation(step, measured, self.metric, self.p.task.diverged_above):
            raise Left("diverged", why)
        self._leave_if_asked()
        return best

    def test(self, **values: Tensor | float) -> None:
        if self._asked() and not self._used_up():
            raise Left("interrupted", "interrupted")
        self.tested.update(measured_once(self.tested, values))

    def keep(self, name: str, data: bytes) -> None:
        self._tell(iter([*self.flush(check=False), Artifact(name, bytes(data), self.step)]))

    def best_weights(self) -> None:
        if self.model is None or not self.best.weights:
            raise UsageError("run.best_weights found no weights: call run.optimizer and run.evaluate first")
        self.model.load_state_dict(self.best.weights)

    # -- writing down -------------------------------------------------------------------------------------------------

    def save(self, **objects: Any) -> None:
        self.saves = True
        stop = self._asked()
        every, now = self.checkpoints, time.perf_counter()
        due = every is not None and every.due(now - self.saved_at, self.step - self.saved_step)
        if every is not None and (due or stop):
            self._tell(self.flush())
            state = {
                "objects": captured(objects), "step": self.step, "evaluated": self.evaluated, "losses": self.losses,
                "counted": [self.evaluations, now - self.began_at], "since_report": list(self.since_report),
                "result": [self.last, self.tested],
                "best": {**vars(self.best), "values": dict(self.best.values)},
                "named": {key: one.get_state() for key, one in self.generators.items()},
                "generators": checkpoint.generators(self.device), "points": self.points.last,
            }  # fmt: skip
            self._tell(iter([Checkpoint(self.step, state)]))
            self.saved_at, self.saved_step = time.perf_counter(), self.step
        if stop:
            raise Left("interrupted", "interrupted")

    def restore(self, **objects: Any) -> int:
        if self.state is None:
            return 0
        put_back(objects, self.state["objects"])
        for key, one in self.generators.items():
            if key in self.state["named"]:
                one.set_state(self.state["named"][key])
        checkpoint.restore_generators(self.state["generators"], self.device)
        self.taken_up = True
        return self.step

    def restored(self, name: str) -> Any:
        return plain_value(None if self.state is None else self.state["objects"], name)

    def _take_up(self, state: checkpoint.State) -> None:
        self.step = self.first = self.saved_step = state["step"]
        self.evaluated = state["evaluated"]
        self.losses, (self.last, self.tested) = list(state["losses"]), map(dict, state["result"])
        self.evaluations, so_far = state["counted"][:2]
        self.since_report = tuple(state.get("since_report", (self.step, 0)))
        self.began_at -= so_far
        weights = {name: tensor.to(self.device) for name, tensor in state["best"]["weights"].items()}
        vars(self.best).update({**state["best"], "weights": weights})
        self.points = Points(state["points"], BLOCK_SECONDS)

    # -- blocks and divergence ----------------------------------------------------------------------------------------

    def flush(self, *, check: bool = True) -> Iterator[Event]:
        """What was logged since the last time, in blocks that have the same steps.

        Raises:
            Left: a training loss is not finite or too large.
        """
        blocks: dict[tuple[int, ...], dict[str, list[float]]] = {}
        columns = self.points.take()
        for name, (steps, values) in sorted(columns.items(), key=lambda one: one[0] != "train_loss"):
            blocks.setdefault(tuple(steps), {})[name] = values
        for at, own in blocks.items():
            yield Steps(list(at), own, math.ceil(at[-1] / self.steps_per_epoch), self._elapsed(), 0, self._share())
        steps, losses = columns.get("train_loss", ([], []))
        self.losses = [self.losses[0] + sum(losses), self.losses[1] + len(losses)]
        bound = self.p.task.diverged_above
        for step, loss in zip(steps, losses, strict=True) if check else ():
            if why := divergence.of_training(step, loss, bound):
                raise Left("diverged", why)

    def _of_optimizer(self) -> dict[str, Tensor | float]:
        assert self.built is not None
        found: dict[str, Tensor | float] = {"lr_effective": float(self.built.param_groups[0]["lr"])}
        telemetry = getattr(self.built, "telemetry", None)
        return found if telemetry is None else {**found, **telemetry()}

    def _keep_best(self, value: float, read: dict[str, float], epoch: float) -> None:
        best = self.best
        best.loss, best.values, best.evaluation = value, read, self.evaluations
        best.epoch, best.step = epoch, self.step
        if self.model is not None:
            best.weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    # -- the budget, and stopping -------------------------------------------------------------------------------------

    def _total(self) -> int | None:
        """Steps of the whole run; None where nobody knows: --epochs counts nothing before `optimizer` says how long
        one is."""
        if self.training.end.unit == "epochs" and not self.counts_epochs:
            return self.training.max_steps
        if self.training.end.unit == "epochs":
            planned = self.training.epochs * self.steps_per_epoch
            return min(planned, self.training.max_steps or planned)
        return planned_steps(self.training, 1, self.p.capabilities)[1]

    def _elapsed(self) -> float:
        return time.perf_counter() - self.began_at

    def _share(self) -> float:
        """Of the budget, used so far; of a time all that passes counts."""
        total = self._total()
        if total is not None:
            return self.step / max(1, total)
        return self._elapsed() / self.training.end.amount if self.training.end.unit == "seconds" else 0.0

    def _used_up(self) -> bool:
        return self._share() >= 1

    def _early(self) -> str:
        patience = self.training.patience
        if patience is None or self.evaluations - self.best.evaluation < patience:
            return ""
        return f"no better validation {self.metric.name} for {patience} evaluations"

    def _check_step(self, step: int) -> None:
        check_step(step)
        if not self.taken_up:
            raise UsageError(f"this run goes on after step {self.step}: call run.restore(...) before the first log")
        total = self._total()
        if total is not None and step > total:
            raise UsageError(f"step {step} is beyond the budget of {total} steps; ask run.should_stop()")

    def _asked(self) -> bool:
        """Whether somebody asked the run to stop."""
        if self.stop_at == math.inf and self.asked_to_stop():
            self.stop_at = time.perf_counter()
        return self.stop_at < math.inf

    def _leave_if_asked(self, *, at_once: bool = False) -> None:
        """Leave a loop that was asked to stop; one that asks for that, or writes itself down, has some time to do so.

        Args:
            at_once: the loop is between two steps, after it could write itself down.
        """
        if self._asked() and not self._used_up():
            if (self.saves or self.asks) and not at_once and time.perf_counter() - self.stop_at < GRACE_S:
                return
            raise Left("interrupted", "interrupted")

    # -- the end ------------------------------------------------------------------------------------------------------

    def _parameters(self) -> list[nn.Parameter]:
        return [] if self.model is None else [p for p in self.model.parameters() if p.requires_grad]

    def results(self) -> dict[str, float]:
        """Flat figures of the run; what was never measured is absent."""
        objective = f"val_{self.metric.name}"
        found: dict[str, float] = {
            "steps": self.step, "wall_s": self._elapsed(), "peak_memory_bytes": peak_memory_bytes(self.device),
        }  # fmt: skip
        if self.counts_epochs:
            found |= {"epochs": self.step / self.steps_per_epoch, "best_epoch": self.best.epoch}
        if parameters := self._parameters():
            found["parameters"] = sum(p.numel() for p in parameters)
        if "epoch_train_loss" in self.last:
            found["final_train_loss"] = self.last["epoch_train_loss"]
        if objective in self.last:
            found[f"final_{objective}"] = self.last[objective]
        if self.best.evaluation:
            found |= {f"best_{objective}": self.best.loss, "best_step": self.best.step, **self.best.values}
        else:
            found.pop("best_epoch", None)
        return found | self.tested
