"""What is left of a run when it ends: its figures."""

from __future__ import annotations

import time
from typing import Any

from vrcli.engine.prepare import peak_memory_bytes


def results_of(loop: Any) -> dict[str, float]:
    """Flat figures of a training loop of `vrcli.engine.loop`; what was never measured is absent."""
    found: dict[str, float] = {
        "steps": loop.step,
        "gradient_evaluations": loop.gradient_evaluations,
        "epochs": loop.last.get("epoch", 0),
        "wall_s": time.perf_counter() - loop.started,
        "train_s": loop.train_s,
        "parameters": sum(p.numel() for p in loop.parameters),
        "peak_memory_bytes": peak_memory_bytes(loop.p.device),
    }
    if loop.train_s > 0 and loop.step:
        found["samples_per_s"] = loop.samples / loop.train_s
        found["step_ms"] = 1000 * loop.train_s / loop.step
        if loop.p.device.type == "cpu":  # elsewhere the call returns before the work is done
            found["optimizer_ms"] = 1000 * loop.optimizer_s / loop.step
    if loop.last:
        found["final_train_loss"] = loop.last["epoch_train_loss"]
        found[f"final_{loop.objective}"] = loop.last[loop.objective]
    if loop.probes.probes:
        found["probe_s"], found["probe_gradients"] = loop.probes.seconds, loop.probes.gradient_evaluations
    if loop.create_graph:
        found["hessian_products"] = loop.hessian_products
    if loop.best.evaluation:
        found[f"best_{loop.objective}"] = loop.best.loss
        found["best_epoch"], found["best_step"] = loop.best.epoch, loop.best.step
        found.update({f"val_{name}": value for name, value in loop.best.values.items()})
    found.update({f"test_{name}": value for name, value in loop.test.items()})
    return found
