"""`vr run --lr-from RUN`: the learning rates of a stored run, step for step, in a run of another optimizer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vrcli
from vrcli.db.store import Store
from vrcli.engine.events import Eval
from vrcli.engine.schedules import replay
from vrcli.errors import UsageError
from vrcli.execute.replay import FILE
from vrcli.spec import REPLACED, REPLAYED, Rates, Training

SPIRALS = "vrcli.cli.scaffold.task_template:Spirals"
COSINE = {"schedule": "warmup-cosine", "warmup_epochs": 1}
#: The settings that AdamW and VRAdam share.
SHARED = {"weight_decay": 0.01, "betas": (0.9, 0.99)}


def run(task: str = SPIRALS, **words: Any) -> Any:
    words = {"preset": "smoke", "epochs": 3, "threads": 1, "device": "cpu", "watch": lambda event: None, **words}
    return vrcli.run(task, **words).runs[0]


def curves(db: str | Path, *numbers: int) -> list[dict[str, list[float]]]:
    """Of each run its curves by name, but for the seconds."""
    with Store.open(db, mode="read") as store:
        found = store.curves.read(numbers)
    return [{name: list(c.values) for (of, name), c in found.items() if of == n and name != "wall_s"} for n in numbers]


def weights(db: str | Path, number: int) -> bytes:
    with Store.open(db, mode="read") as store:
        (name,) = (one.name for one in store.artifacts.select(number) if one.name != FILE)
        return bytes(store.artifacts.read(number, name))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("schedule", [{}, COSINE])
def test_the_rates_of_adamw_give_the_same_weights_bit_for_bit(schedule: dict[str, Any]) -> None:
    words = {"opt": "adamw", "keep_weights": "last"}
    direct, again = run(**words, lr=0.02, **schedule), run(**words, lr_from=1)
    assert curves("vr.db", direct.id) == curves("vr.db", again.id)
    assert weights("vr.db", direct.id) == weights("vr.db", again.id)
    assert direct.spec_id != again.spec_id


@pytest.mark.parametrize("beta3", [0.0, 50.0])
def test_each_step_has_the_rate_of_vradam_and_adamw_then_is_vradam(beta3: float) -> None:
    run(opt="vradam", lr=0.02, beta3=beta3, **COSINE, **SHARED)
    run(opt="adamw", lr_from=1, **SHARED)
    theirs, ours = curves("vr.db", 1, 2)
    assert ours["lr_effective"] == theirs["lr_effective"]  # recorded from the optimizer's parameter groups
    assert (min(theirs["gate"]) < 0.9) == (beta3 > 0)
    np.testing.assert_allclose(ours["train_loss"], theirs["train_loss"], rtol=1e-5)


def test_any_optimizer_takes_them_and_momentum_keeps_its_own_settings() -> None:
    run(opt="vradam", lr=0.02, beta3=50.0)
    found = run(opt="sgd", momentum=0.5, lr_from=1)
    theirs, ours = curves("vr.db", 1, 2)
    assert ours["lr_effective"] == theirs["lr_effective"]
    assert found.spec["optimizer_settings"]["momentum"] == 0.5
    assert ours["train_loss"][-1] != theirs["train_loss"][-1]


def test_the_spec_names_the_rates_by_digest_and_a_configuration_has_one_for_each_seed() -> None:
    sources = [run(opt="vradam", seed=seed) for seed in (0, 1)]
    found = [run(opt="adamw", lr_from=source.name, seed=source.seed) for source in sources]
    assert len({one.spec["training"]["lr_digest"] for one in found}) == 2
    assert len({one.configuration for one in found}) == 1
    assert {one.spec["training"]["lr_from"] for one in found} == {f"vradam:{sources[0].configuration}"}
    assert not {*REPLACED} & {*found[0].spec["training"]}
    assert found[0].spec["optimizer_settings"]["lr"] == sources[0].spec["optimizer_settings"]["lr"]
    plain = run(opt="adamw")
    assert not {*REPLAYED} & {*plain.spec["training"]}
    assert plain.configuration != found[0].configuration
    assert run(opt="adamw", lr_from=1).spec_id == found[0].spec_id


def test_it_is_repeated_without_the_run_that_had_the_rates(vr: Callable[..., Any]) -> None:
    source = run(opt="vradam", lr=0.02, beta3=50.0, **COSINE)
    run(opt="adamw", lr_from=1)
    shown = vr("runs", "show", "2").out
    assert f"\n  learning rate of run {source.name} (vradam), step for step" in shown
    command = shown.split("repeat it with\n")[1].strip()
    assert f"--lr-from {source.name} " in command
    assert not any(flag in command for flag in ("--lr ", "--schedule", "--warmup", "--eta-min"))
    same = vr(*command.split()[1:])
    assert f"\n  learning rate of run {source.name} (vradam), step for step" in same.err
    assert vr("runs", "rm", "1", "--yes").code == 0
    again = vr("runs", "rerun", "3")
    assert again.code == 0
    assert "same curves as run 3, bit for bit" in again.out
    specs = [json.loads(vr("runs", "show", str(n), "--format", "json").out)["spec_id"] for n in (2, 3, 4)]
    assert len(set(specs)) == 1
    assert vr(*command.split()[1:]).code == 2


def test_settings_that_both_have_and_that_differ_are_named(spirals: Callable[..., Any]) -> None:
    run(opt="vradam", weight_decay=0.1, betas=(0.9, 0.99))
    words = ("--opt", "adamw", "--device", "cpu", "--lr-from", "1", "--epochs", "3")
    said = "note: beside its learning rate run 1 had another betas, weight_decay\n"
    assert said in spirals(*words).err
    assert "note: " not in spirals(*words, "--weight-decay", "0.1", "--beta2", "0.99").err


@pytest.mark.parametrize("how", ["resume", "the same call"])
def test_an_interrupted_one_goes_on_with_the_same_bits(
    valley: None, vr: Callable[..., Any], tmp_path: Path, how: str
) -> None:
    words: dict[str, Any] = {"task": "valley:Valley", "preset": "quick", "epochs": 12}
    for db in ("whole.db", "vr.db"):
        run(**words, opt="vradam", lr=0.02, beta3=5.0, db=db, **COSINE)
    run(**words, opt="adamw", lr_from=1, db="whole.db")
    left = 7

    def watch(event: Any) -> None:
        nonlocal left
        left -= isinstance(event, Eval)
        if not left:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(**words, opt="adamw", lr_from=1, checkpoint_every="3", watch=watch)
    if how == "resume":
        vr("runs", "rm", "1", "--yes")
        assert "run 2 resumes at step 12 of 24\n" in vr("runs", "resume").err
    else:
        assert run(**words, opt="adamw", lr_from=1).id == 2
    assert curves("whole.db", 2) == curves("vr.db", 2)


def test_what_was_kept_and_is_damaged_is_refused(vr: Callable[..., Any]) -> None:
    run(opt="vradam")
    run(opt="adamw", lr_from=1)
    with closing(sqlite3.connect("vr.db")) as plain, plain:
        plain.execute("UPDATE artifacts SET data = zeroblob(size)")
    done = vr("runs", "rerun", "2")
    assert (done.code, done.err) == (2, "vr: --lr-from: the learning rates that are kept are not those of the spec\n")


@pytest.fixture
def sources(valley: None, written_once: Callable[..., Any]) -> None:
    """Run 1 of VRAdam, 2 diverged, 3 with a rate for each tensor, 4 of another task, 5 without its first rate."""

    def write(path: Path) -> None:
        run(opt="vradam", db=path)
        run(opt="sgd", lr=1e30, db=path)
        run(opt="vradam", norm_scope="tensor", db=path)
        run("valley:Valley", opt="vradam", db=path)
        run(opt="adamw", lr=0.3, db=path)
        with closing(sqlite3.connect(path)) as plain, plain:
            plain.execute("DELETE FROM points WHERE run_id = 5 AND step = 1")

    written_once("sources of learning rates", write)


REFUSED = {
    "no such run": (["9"], "9: vr.db has no run 9; its runs are 1 to 5"),
    "not completed": (["2"], "2: run 2 is diverged; give a run that completed"),
    "a rate for each tensor": (["3"], "3: run 3 has a learning rate for each tensor (norm_scope tensor); give a run"),
    "another task": (["4"], "4: run 4 is of task valley, not spirals"),
    "a step without a rate": (["5"], "5: run 5 has no learning rate for every step (the curve lr_effective); give a"),
    "another seed": (["1", "--seed", "1"], "1: --seed must be 0, as in run 1, got 1 (a run of"),
    "several seeds": (["1", "--seeds", "2"], "1: --seed must be 0, as in run 1, got 1 (a run of several seeds takes"),
    "another batch": (["1", "--batch-size", "20"], "1: --batch-size must be 40, as in run 1, got 20"),
    "clipped": (["1", "--grad-clip", "1"], "1: --grad-clip must be none, as in run 1, got 1.0"),
    "other data": (["1", "--turns", "2"], "1: --turns must be 1.0, as in run 1, got 2.0"),
    "more steps": (["1", "--epochs", "4"], "it has the learning rates of 9 steps, and this run takes 12; --until ste"),
    "seconds": (["1", "--until", "seconds:1"], "and nobody knows beforehand how many this run takes; --until steps:9"),
    "a rate beside it": (["1", "--lr", "0.1"], "1 and --lr both say what the learning rate is; leave one of them out"),
    "a schedule": (["1", "--schedule", "constant"], "1 and --schedule both say what the learning rate is"),
    "a warm-up": (["1", "--warmup-epochs", "1"], "1 and --warmup-epochs both say what the learning rate is"),
    "a file's rate": (["1", "--config", "my.toml"], "1 and --lr both say what the learning rate is"),
    "a gate of its own": (["1", "--opt", "vrmomentum"], "1: vrmomentum would lower the rates once more, by its own"),
    "no rate": (["1", "--opt", "rates:Still"], "1: rates:Still has no setting lr"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_differs_where_it_must_not_is_one_line(
    sources: None, spirals: Callable[..., Any], tmp_path: Path, case: str
) -> None:
    (tmp_path / "my.toml").write_text("[optimizer]\nlr = 0.1\n")
    (tmp_path / "rates.py").write_text(
        "import torch\nclass Still(torch.optim.SGD):\n"
        "    def __init__(self, params, rate: float = 0.1):\n        super().__init__(params, lr=rate)\n"
    )
    words, expected = REFUSED[case]
    opt, epochs = ([] if name in words else [name, value] for name, value in (("--opt", "adamw"), ("--epochs", "3")))
    done = spirals("--device", "cpu", *opt, *([] if "--until" in words else epochs), "--lr-from", *words)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("vr: --lr-from ")
    assert expected in done.err
    assert len(done.err.splitlines()) == 1, done.err
    with Store.open("vr.db", mode="read") as store:
        assert len(store.runs.select()) == 5


def test_a_loop_of_its_own_no_database_and_no_run_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--lr-from 1: there is no vr.db here, so no run$"):
        run(opt="adamw", lr_from=1)
    assert not (tmp_path / "vr.db").exists()
    run(opt="adamw")
    with pytest.raises(UsageError, match="trains in a loop of its own, whose steps vr does not take"):
        vrcli.run("mine", command="true {lr} {seed}", lr_from=1)
    for wrong in (1.5, True, [1]):
        with pytest.raises(UsageError, match=r"^--lr-from must be the number or name of a run, got "):
            run(opt="adamw", lr_from=wrong)


def test_fewer_steps_than_there_are_rates_take_the_first_of_them() -> None:
    run(opt="vradam", lr=0.02, beta3=50.0)
    run(opt="adamw", lr_from=1, epochs=2)
    theirs, ours = curves("vr.db", 1, 2)
    assert ours["lr_effective"] == theirs["lr_effective"][:6]


def test_a_group_with_a_rate_of_its_own_keeps_its_ratio() -> None:
    schedule = replay(Rates("keen-otter", (0.3, 0.1)), 0.5)
    assert [schedule(0.5, step) for step in (0, 1)] == [0.3, 0.1]
    assert schedule(0.25, 1) == pytest.approx(0.05)


def test_rates_survive_as_bytes_and_training_without_them_is_as_ever() -> None:
    rates = Rates("keen-otter", (1e-3, 0.1, 5e-324))
    assert Rates.decoded("keen-otter", rates.encoded()) == rates
    assert rates.digest == Rates("another", rates.values).digest != Rates("keen-otter", (1e-3, 0.1)).digest
    assert not {*REPLAYED} & {*Training().model_dump()}


@pytest.mark.parametrize("command", ["sweep", "compare"])
def test_other_commands_say_that_it_is_not_theirs(vr: Callable[..., Any], command: str) -> None:
    done = vr(command, "cnn", "--opt", "adamw", *(["--opt", "sgd"] if command == "compare" else []), "--lr-from", "1")
    assert (done.code, done.out) == (2, "")
    assert done.err == "vr: --lr-from is an option of another command; vr COMMAND --help lists those of each\n"
