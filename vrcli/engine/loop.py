"""The training loop: one for every task and every optimizer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vrcli.direction import better
from vrcli.engine import batches, checkpoint, divergence, evaluation, schedules, weights
from vrcli.engine.events import Artifact, Checkpoint, Ended, Eval, Event, Every, Started, Status, Steps
from vrcli.engine.prepare import Prepared, planned_steps
from vrcli.engine.probes.asked import NONE, Probing
from vrcli.engine.probes.measuring import Measuring, built
from vrcli.engine.recorder import Best, Recorder
from vrcli.engine.results import results_of
from vrcli.engine.seeding import GlobalNoise, derive, seed_python
from vrcli.tasks.base import Batch, Split


def train(
    prepared: Prepared,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoints: Every | None = None,
    resume_from: checkpoint.State | None = None,
    keep: weights.Kept | None = None,
    probing: Probing = NONE,
) -> Iterator[Event]:
    """Train to the end of the run's budget, yielding events as they happen.

    The listener runs between steps, on the training thread. Ctrl-C inside a step, or a true `should_stop`, ends the run
    as interrupted, after a last block with everything measured so far.

    Args:
        checkpoints: how often to yield a `Checkpoint`; also the last event before an orderly stop is one then. None
            for never.
        resume_from: the state of a `Checkpoint` of a run of the same spec. What follows are the events that followed
            it, with the same numbers.
        keep: which weights of a run that completes to yield as an `Artifact`.
        probing: what to measure beside the loss; no step depends on it.

    Yields:
        `Started`, then `Steps`, `Eval`, `Probed`, `Artifact` and `Checkpoint` in order, and `Ended` as the last.
    """
    loop = _Loop(prepared, should_stop, checkpoints, probing)
    loop.kept = weights.FILES[keep]
    if resume_from is not None:
        checkpoint.restore(loop, resume_from)
    yield from loop.run()


class _Stop(Exception):
    """Leaves the loop; carries how the run ended."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class _Loop:
    def __init__(
        self, prepared: Prepared, should_stop: Callable[[], bool], checkpoints: Every | None, probing: Probing
    ) -> None:  # fmt: skip
        self.p = prepared
        self.checkpoints = None if checkpoint.NO_RESUME in prepared.capabilities else checkpoints
        self.training = prepared.spec.training
        self.should_stop = should_stop
        self.metric = prepared.task.metrics[0]
        self.objective = f"val_{self.metric.name}"
        self.parameters = [p for p in prepared.model.parameters() if p.requires_grad]
        self.recorder = Recorder()
        self.noise = GlobalNoise(prepared.device)
        self.noise_seed = derive(prepared.spec.seed, "noise")
        seed_python(self.noise_seed)
        self.needs_closure = "closure" in prepared.capabilities
        self.create_graph = "create_graph" in prepared.capabilities
        self.telemetry = getattr(prepared.optimizer, "telemetry", None)
        self.base_lrs = [float(group["lr"]) for group in prepared.optimizer.param_groups]
        self.steps_per_epoch, self.total_steps = planned_steps(self.training, prepared.samples, prepared.capabilities)
        self.probes = Measuring(built(probing, prepared), probing.steps(self.steps_per_epoch))
        self.end, self.used_up = self.training.end, False
        rates, settings = prepared.spec.rates, prepared.spec.optimizer_settings
        self.schedule = (
            schedules.replay(rates, settings["lr"]) if rates else schedules.make(self.training, self.steps_per_epoch)
        )
        self.step, self.samples, self.evaluations = 0, 0, 0
        self.epoch, self.batch = 1, 0  # the place of the next step: its epoch, and how many steps that has behind it
        self.gradient_evaluations, self.hessian_products = 0, 0
        self.train_s, self.optimizer_s, self.wall_s = 0.0, 0.0, 0.0
        self.mode: bool | None = None
        self.kept_files_of = 0
        self.augment: torch.Generator | None = None
        self.saved_s, self.saved_step = 0.0, 0
        self.best = Best()
        self.before: dict[str, Tensor] = {}
        self.last: dict[str, float] = {}

    # -- the outline --------------------------------------------------------------------------------------------------

    def run(self) -> Iterator[Event]:
        self.clock = self.saved_s = time.perf_counter()
        self.started = self.clock - self.wall_s
        yield Started(sum(p.numel() for p in self.parameters), self.steps_per_epoch, self.total_steps, self.step)
        status: Status = "completed"
        reason = ""
        try:
            while True:
                yield from self.train_epoch()
                if self.used_up or self.training.eval_every is None:
                    yield from self.flush()
                    yield from self.end_stretch()
                if self.used_up:
                    break
                self.epoch, self.batch = self.epoch + 1, 0
            yield from self.finish()
        except _Stop as stop:
            status, reason = stop.status, stop.reason
            if status == "completed":
                yield from self.finish()
        except KeyboardInterrupt:
            status, reason = "interrupted", "interrupted"
            yield from self.flush(check=False)
        yield Ended(status, results_of(self), reason)

    def train_epoch(self) -> Iterator[Event]:
        self.set_mode(train=True)
        every = self.training.eval_every
        for batch, samples in () if self.used_up else batches.left(self):
            self.one_step(batch, samples)
            self.batch += 1
            self.used_up = self.share() >= 1
            yield from self.probe()
            stop, measure = self.should_stop(), every is not None and self.step % every == 0 and not self.used_up
            if self.recorder.due or stop or measure:
                yield from self.flush()
            if measure:
                yield from self.end_stretch()
                self.set_mode(train=True)
            elif stop:
                yield from self.write_down()
                raise _Stop("interrupted", "interrupted")
            if self.due:
                yield from self.flush()
                yield from self.write_down()
            if self.used_up:
                break

    # -- the budget ---------------------------------------------------------------------------------------------------

    def share(self) -> float:
        """Of the budget, used so far; what the last step took beyond it counts."""
        if self.total_steps is not None:
            return self.step / max(1, self.total_steps)
        if self.end.unit == "gradients":
            return self.gradient_evaluations / self.end.amount
        # Without a wait for the device: what it has still to do is waited for, and charged, at the next block.
        return (self.train_s + time.perf_counter() - self.clock) / self.end.amount

    def expected_steps(self) -> float:
        """Of the whole run: as planned, or at the cost that its steps have had so far."""
        if self.total_steps is not None:
            return self.total_steps
        if self.end.unit == "gradients" and self.step:
            return self.step * self.end.amount / self.gradient_evaluations  # whole numbers stay exact
        return self.step / self.share() if self.step else math.inf

    # -- checkpoints --------------------------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint; the device is not waited for to know."""
        every, seconds = self.checkpoints, time.perf_counter() - self.saved_s
        return every is not None and every.due(seconds, self.step - self.saved_step)

    def write_down(self, *, next_epoch: bool = False) -> Iterator[Event]:
        """The state between two steps, when nothing is waiting in the recorder."""
        if self.checkpoints is not None:
            state = checkpoint.capture(self, next_epoch=next_epoch)
            if checkpoint.keepable(state):
                yield Checkpoint(self.step, state)
            else:  # an optimizer that does not say so
                self.checkpoints = None
            self.saved_step = self.step
            self.saved_s = self.clock = time.perf_counter()  # writing down is not training

    # -- one step -----------------------------------------------------------------------------------------------------

    def one_step(self, batch: Batch, samples: int) -> None:
        self.probes.look(self.step, self.parameters)
        if weights.BEFORE in self.kept and self.step + 1 == self.total_steps:
            self.before = {name: tensor.clone() for name, tensor in self.p.model.state_dict().items()}
        if self.schedule is not None:
            total = self.expected_steps()
            for group, lr in zip(self.p.optimizer.param_groups, self.base_lrs, strict=True):
                group["lr"] = self.schedule(lr, self.step, total)
        lr = self.p.optimizer.param_groups[0]["lr"]
        if self.needs_closure:
            loss, norm = self.closure_step(batch)
        else:
            loss, norm = self.backward(batch)
            before = time.perf_counter()
            self.p.optimizer.step()
            self.optimizer_s += time.perf_counter() - before
        self.step += 1
        self.samples += samples
        values: dict[str, Tensor | float] = {"train_loss": loss, "lr_effective": float(lr), "grad_norm": norm}
        if self.telemetry is not None:
            # The optimizer writes its telemetry in place at the next step: keep copies.
            values.update({name: value.clone() for name, value in self.telemetry().items()})
        self.recorder.put(values, samples)

    def backward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and gradients of one batch under the step's own noise: (loss, gradient norm before clipping)."""
        self.noise.seed(self.noise_seed + self.step)
        self.gradient_evaluations += 1
        if not self.training.accumulate_gradients:
            self.p.optimizer.zero_grad(set_to_none=True)
        # Only this form of attention can be differentiated twice.
        attention = sdpa_kernel(SDPBackend.MATH) if self.create_graph else nullcontext()
        with evaluation.autocast(self.p), attention:
            loss = self.p.task.loss(self.p.model, batch)
        loss.backward(create_graph=self.create_graph)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if self.training.grad_clip is not None:
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.training.grad_clip)
        else:
            norm = torch.nn.utils.get_total_norm(gradients)
        if self.create_graph and (first := next((g for g in gradients if g.requires_grad), None)) is not None:
            first.register_hook(self.count_hessian_product)
        return loss.detach(), norm.detach()

    def count_hessian_product(self, _: Tensor) -> None:
        """Runs whenever the gradients are differentiated: each product of the Hessian with a vector does so once."""
        self.hessian_products += 1

    def closure_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A step of an optimizer that evaluates the batch itself; the first evaluation is the one recorded."""
        first: list[tuple[Tensor, Tensor]] = []

        def closure() -> Tensor:
            with torch.enable_grad():
                found = self.backward(batch)
            if not first:
                first.append(found)
            return found[0]

        before = time.perf_counter()
        self.p.optimizer.step(closure)  # type: ignore[arg-type]  # torch's annotation says float, its code takes both
        self.optimizer_s += time.perf_counter() - before
        return first[0]

    # -- probes -------------------------------------------------------------------------------------------------------

    def probe(self) -> Iterator[Event]:
        """What the probes say after this step, if it is their turn; none of the time and the gradients is training."""
        if self.probes.due(self.step):
            yield from self.flush()
            before = self.probes.seconds
            yield from self.probes.measure(self.p, self.step, self.parameters, [self.augment])
            self.started += self.probes.seconds - before
            self.clock = time.perf_counter()

    # -- blocks and divergence ----------------------------------------------------------------------------------------

    def flush(self, *, check: bool = True) -> Iterator[Event]:
        """The steps since the last block, and the end of the run where one of them diverged."""
        steps, values = self.recorder.flush()  # waits for the device, so the clock is read after it
        now = time.perf_counter()
        self.train_s, self.clock = self.train_s + now - self.clock, now
        if steps:
            yield Steps(steps, values, self.epoch, self.train_s, self.samples, self.share())
            self.clock = time.perf_counter()  # the listener's time is not training time
            if check:
                self.check(steps, values)

    def check(self, steps: Sequence[int], values: Mapping[str, Sequence[float]]) -> None:
        """Ends the run at the first step whose loss is not finite or above the task's `diverged_above`."""
        bound = self.p.task.diverged_above
        for step, loss, lr in zip(steps, values["train_loss"], values["lr_effective"], strict=True):
            if why := divergence.of_training(step, loss, bound):
                raise _Stop("diverged", f"{why}, lr {lr:.3g}")

    # -- the end of an epoch, or of the steps from one evaluation to the next -----------------------------------------

    def end_stretch(self) -> Iterator[Event]:
        share = self.share()
        self.set_mode(train=False)
        measured = self.evaluate(self.p.data.val)
        value = measured[self.metric.name]
        self.evaluations += 1
        partial = self.training.eval_every is not None
        self.last = {
            "epoch": self.step / self.steps_per_epoch if partial else self.epoch,
            "epoch_train_loss": self.recorder.epoch_loss(),
            **{f"val_{name}": value for name, value in measured.items()},
            "wall_s": time.perf_counter() - self.started,
        }
        if self.needs_closure:  # elsewhere it is the number of steps
            self.last["gradients"] = self.gradient_evaluations
        if self.training.stop_accuracy is not None:
            train = self.evaluate(self.p.data.train)
            self.last.update({f"train_{name}": value for name, value in train.items() if name == "accuracy"})
        best = better(value, self.best.loss, self.metric.direction)
        if best:
            self.keep_weights(value, measured)
        yield Eval(self.last["epoch"], self.step, self.last, best, self.evaluations, share)
        epoch = self.step // self.steps_per_epoch if partial and not self.used_up else self.epoch
        if epoch > self.kept_files_of or self.used_up:
            self.kept_files_of = epoch
            with torch.no_grad():
                self.noise.seed(evaluation.SEED)
                files = self.p.task.artifacts(self.p.model, epoch=epoch, last=self.used_up)
            for name, data in files.items():
                yield Artifact(name, data, self.step)
        if why := divergence.of_evaluation(self.step, measured, self.metric, self.p.task.diverged_above):
            raise _Stop("diverged", why)
        self.stop_early()
        if self.should_stop() and not self.used_up:  # a run that has used its budget up needs its test alone
            yield from self.write_down(next_epoch=not partial)
            raise _Stop("interrupted", "interrupted")
        self.clock = time.perf_counter()

    def stop_early(self) -> None:
        t, accuracy = self.training, self.last.get("train_accuracy")
        at, unit = (f"epoch {self.epoch}", "epochs") if t.eval_every is None else (f"step {self.step}", "evaluations")
        if t.stop_loss is not None and self.last["epoch_train_loss"] < t.stop_loss:
            raise _Stop("completed", f"training loss below {t.stop_loss:g} after {at}")
        if t.stop_accuracy is not None and accuracy is not None and accuracy >= t.stop_accuracy:
            raise _Stop("completed", f"training accuracy reached {t.stop_accuracy:g} after {at}")
        if t.patience is not None and self.evaluations - self.best.evaluation >= t.patience:
            raise _Stop("completed", f"no better validation {self.metric.name} for {t.patience} {unit}")

    def evaluate(self, split: Split) -> dict[str, float]:
        return evaluation.evaluate(self.p, split)

    def set_mode(self, *, train: bool) -> None:
        if self.mode is train:
            return
        self.mode = train
        self.p.model.train(train)
        if "train_eval" in self.p.capabilities:
            # Schedule-free methods keep two sets of weights and swap them.
            getattr(self.p.optimizer, "train" if train else "eval")()

    def keep_weights(self, value: float, measured: Mapping[str, float]) -> None:
        state = self.p.model.state_dict()
        if not self.best.weights:
            self.best.weights = {name: tensor.clone() for name, tensor in state.items()}
        else:
            for name, tensor in state.items():
                self.best.weights[name].copy_(tensor)
        self.best.loss, self.best.values = value, measured
        self.best.evaluation, self.best.epoch, self.best.step = self.evaluations, self.last["epoch"], self.step

    def finish(self) -> Iterator[Event]:
        """The test, and the weights that are to be kept."""
        self.set_mode(train=False)
        yield from self.keep_file(weights.BEFORE, self.before)
        yield from self.keep_file("last", self.p.model.state_dict())
        self.measure_test()
        yield from self.keep_file("best", self.p.model.state_dict())

    def keep_file(self, which: str, entries: Mapping[str, Tensor]) -> Iterator[Event]:
        """Where they are to be kept, and are there."""
        if which in self.kept and entries:
            yield Artifact(weights.name_of(which), weights.encoded(entries), self.step)

    kept: tuple[str, ...] = ()

    def measure_test(self) -> None:
        """Once, with the weights of the best epoch: nothing is ever chosen by it."""
        self.p.model.load_state_dict(self.best.weights)
        self.test = self.evaluate(self.p.data.test)

    test: Mapping[str, float] = {}
