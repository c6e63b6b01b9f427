"""`vr run`: what it prints, stores and refuses."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

SPIRALS = "vrcli.cli.scaffold.task_template:Spirals"


def rows(path: Path, query: str = "SELECT count(*) FROM runs") -> int:
    with sqlite3.connect(path / "vr.db") as connection:
        return connection.execute(query).fetchone()[0]


def test_a_run_is_shown_stored_and_summed_up(spirals, tmp_path):
    done = spirals("--opt", "vradam", "--beta3", "1.0")
    assert done.code == 0
    assert done.out.startswith("run 1 · ")
    assert "best val loss" in done.out
    assert "test loss" in done.out
    assert "vradam lr=" in done.err
    assert "beta3=1" in done.err
    assert "\x1b" not in done.out + done.err
    assert rows(tmp_path) == 1


def test_json_is_the_only_thing_on_stdout(spirals):
    done = spirals("--opt", "adamw", "--format", "json", "--tag", "a b")
    body = json.loads(done.out)
    assert body["status"] == "completed"
    assert body["tag"] == "a b"
    assert body["results"]["steps"] == 6
    assert body["spec"]["optimizer_settings"]["betas"] == [0.9, 0.999]


def test_quiet_prints_one_line(spirals):
    done = spirals("--quiet")
    assert len(done.out.splitlines()) == 1
    assert done.err == ""


def test_several_seeds_are_one_group(spirals, vr):
    done = spirals("--seeds", "3", "--seed", "5", "--format", "json")
    bodies = json.loads(done.out)
    assert [b["seed"] for b in bodies] == [5, 6, 7]
    assert len({b["group"] for b in bodies}) == 1
    assert len({b["spec_id"] for b in bodies}) == 3
    listed = json.loads(vr("runs", "list", "--format", "json", "--group", bodies[0]["group"]).out)
    assert [r["seed"] for r in listed] == [7, 6, 5]


def test_the_same_command_gives_the_same_curve_and_spec(spirals, vr):
    first, second = (json.loads(spirals("--opt", "vradam", "--format", "json").out) for _ in range(2))
    assert first["spec_id"] == second["spec_id"]
    curves = [json.loads(vr("runs", "show", str(b["id"]), "--format", "json").out)["curves"] for b in (first, second)]
    for name in ("train_loss", "val_loss", "grad_norm", "lr_effective", "gate"):
        assert curves[0][name] == curves[1][name], name


def test_precedence_defaults_preset_config_flags(spirals, tmp_path):
    (tmp_path / "my.toml").write_text('tag = "filed"\n[optimizer]\nlr = 0.02\nbeta3 = 0.5\n[training]\nepochs = 3\n')
    body = json.loads(spirals("--config", "my.toml", "--beta3", "0.25", "--format", "json").out)
    assert body["tag"] == "filed"
    assert body["spec"]["optimizer_settings"]["lr"] == 0.02
    assert body["spec"]["optimizer_settings"]["beta3"] == 0.25
    assert body["spec"]["training"]["epochs"] == 3
    assert body["spec"]["task_settings"]["points"] == 200  # the preset's
    assert body["spec"]["training"]["batch_size"] == 40  # the preset's
    assert body["spec"]["training"]["schedule"] == "constant"  # the default


def test_betas_together_and_one_by_one(spirals):
    both = json.loads(spirals("--betas", "0.8,0.9", "--format", "json").out)
    one = json.loads(spirals("--betas", "0.5,0.9", "--beta1", "0.8", "--format", "json").out)
    assert spirals("--betas", "0.9", "--beta2", "x").err == "vr: --beta2 must be a number, got 'x'\n"
    assert both["spec"]["optimizer_settings"]["betas"] == one["spec"]["optimizer_settings"]["betas"] == [0.8, 0.9]


def test_help_lists_the_settings_of_task_and_optimizer(vr):
    sgd = vr("run", SPIRALS, "--opt", "sgd", "--help").out
    assert "--momentum" in sgd
    assert "--nesterov / --no-nesterov" in sgd
    assert "--turns" in sgd
    assert "--beta3" not in sgd
    vradam = vr("run", SPIRALS, "--opt", "vradam", "--help").out
    for flag in ("--beta1", "--beta2", "--beta3", "--lr-cutoff", "--normgrad", "--norm-scope"):
        assert flag in vradam


def test_a_diverged_run_keeps_its_curve_and_exits_with_1(spirals, vr, tmp_path):
    done = spirals("--opt", "sgd", "--lr", "1e30", "--epochs", "5")
    assert done.code == 1
    assert "diverged (loss " in done.out
    assert "above 100 at step 2" in done.out
    assert rows(tmp_path, "SELECT count(*) FROM runs WHERE status = 'diverged'") == 1
    shown = json.loads(vr("runs", "show", "1", "--format", "json").out)
    assert shown["curves"]["train_loss"]["values"][1] > 100


REFUSED = {
    "unknown task": (["run", "cmn"], "no task is called 'cmn'; did you mean cnn?"),
    "no task": (["run"], "which task? One of cnn"),
    "unknown optimizer": (["run", SPIRALS, "--opt", "adamm"], "did you mean adam"),
    "unknown preset": (
        ["run", SPIRALS, "--preset", "smok"],
        "--preset smok is not a preset of spirals; did you mean smoke?",
    ),
    "unknown option": (
        ["run", SPIRALS, "--beta9", "1"],
        "--beta9 is not a setting of vradam or spirals; did you mean --beta",
    ),
    "misspelt own option": (["run", SPIRALS, "--sede", "1"], "did you mean --seed?"),
    "negative beta3": (["run", SPIRALS, "--beta3", "-1"], "--beta3 must be >= 0, got -1"),
    "lr zero": (["run", SPIRALS, "--lr", "0"], "--lr must be > 0, got 0"),
    "lr nan": (["run", SPIRALS, "--lr", "nan"], "--lr must be"),
    "lr text": (["run", SPIRALS, "--lr", "fast"], "--lr must be a number, got 'fast'"),
    "beta out of range": (["run", SPIRALS, "--betas", "0.9,1.0"], "--beta2 must be < 1, got 1.0"),
    "epochs zero": (["run", SPIRALS, "--epochs", "0"], "--epochs must be >= 1, got 0"),
    "batch size zero": (["run", SPIRALS, "--batch-size", "0"], "--batch-size must be >= 1, got 0"),
    "bad choice": (
        ["run", SPIRALS, "--schedule", "cosine"],
        "--schedule must be constant or warmup-cosine, got cosine",
    ),
    "seeds zero": (["run", SPIRALS, "--seeds", "0"], "--seeds must be >= 1, got 0"),
    "negative seed": (["run", SPIRALS, "--seed", "-1"], "--seed must be >= 0, got -1"),
    "threads zero": (["run", SPIRALS, "--threads", "0"], "threads"),
    "too many threads": (["run", SPIRALS, "--threads", "9999"], "the cores of this machine, got 9999"),
    "no such device": (["run", SPIRALS, "--device", "tpu"], "--device must be auto, cpu, cuda or mps, got tpu"),
    "no config": (["run", SPIRALS, "--config", "none.toml"], "--config none.toml: No such file or directory"),
    "nesterov without momentum": (["run", SPIRALS, "--opt", "sgd", "--nesterov"], "momentum"),
    "bad format": (["run", SPIRALS, "--format", "xml"], "--format xml is not one of text, json"),
    "no such optimizer class": (["run", SPIRALS, "--opt", "torch.optim:Adamm"], "Adamm"),
    "task without its module": (["run", "nowhere:Task"], "and no installed module nowhere"),
    "task misspelt in its module": (["run", f"{SPIRALS}s"], "has no class 'Spiralss'; did you mean Spirals?"),
    "unknown option of a class": (
        ["run", SPIRALS, "--zeta", "1"],
        f"(vr run {SPIRALS} --opt vradam --help lists them)",
    ),
    "too few betas": (
        ["run", SPIRALS, "--opt", "adamw", "--betas", "0.9"],
        "--betas takes two numbers, as in 0.9,0.999, got 0.9\n",
    ),
    "too many betas": (["run", SPIRALS, "--betas", "0.9,0.99,0.9"], "as in 0.9,0.999, got 0.9,0.99,0.9\n"),
    "too few of another tuple": (
        ["run", SPIRALS, "--opt", "rprop", "--etas", "0.5"],
        "--etas takes two numbers, as in 0.5,1.2, got 0.5\n",
    ),
    "unknown command": (["doctor"], "no such command 'doctor' (vr --help lists them)"),
    "unknown verb": (["runs", "doctor"], "no such command 'doctor' (vr runs --help lists them)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_exit_2_and_no_row(vr, tmp_path, case):
    words, expected = REFUSED[case]
    done = vr(*words)
    assert done.code == 2
    assert done.out == ""
    assert expected in done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.startswith("vr: ")
    assert not (tmp_path / "vr.db").exists() or rows(tmp_path) == 0


@pytest.mark.parametrize(
    ("read", "says"),
    [
        ("open('nope.csv')", "nope.csv: No such file or directory (relative paths begin at {folder})"),
        ("open('/nope.csv')", "/nope.csv: No such file or directory"),
        ("open('.')", ".: Is a directory (relative paths begin at {folder})"),
        ("np.loadtxt('nope.csv')", "nope.csv not found (relative paths begin at {folder})"),
    ],
)
def test_data_that_the_tasks_own_code_cannot_read_are_an_input(vr, tmp_path, monkeypatch, read, says):
    monkeypatch.delitem(sys.modules, "prices_task", raising=False)
    (tmp_path / "prices_task.py").write_text(
        "import numpy as np\nfrom vrcli.cli.scaffold.task_template import Spirals\n"
        f"class Prices(Spirals):\n    name = 'prices'\n    def data(self, generator):\n        {read}\n"
    )
    done = vr("run", "prices_task:Prices")
    assert done.code == 2
    assert done.err == f"vr: the data of prices cannot be read: {says.format(folder=tmp_path)}\n"
    assert not (tmp_path / "vr.db").exists() or rows(tmp_path) == 0


def test_a_database_that_cannot_be_used_is_refused_untouched(spirals, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at" * 30)
    before = (tmp_path / "text.db").read_bytes()
    for name in ("folder", "text.db", "missing/folder/vr.db", "oracle://somewhere/x"):
        done = spirals("--db", name)
        assert done.code == 2, name
        assert len(done.err.splitlines()) == 1, done.err
    assert (tmp_path / "text.db").read_bytes() == before


def _start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    """A real `vr run` process that has written its first epochs."""
    command = [sys.executable, "-m", "vrcli", "run", SPIRALS, "--threads", "1", "--epochs", "100000", *words]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.strip().startswith("3/"):
            break
    return process


@pytest.mark.parametrize(
    "number", [signal.SIGINT, *(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGTERM, signal.SIGHUP))]
)
def test_an_interrupted_run_ends_with_130_and_keeps_what_it_recorded(vr, tmp_path, number):
    process = _start(tmp_path)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in out
    assert rows(tmp_path, "SELECT count(*) FROM runs WHERE status = 'interrupted'") == 1
    curves = json.loads(vr("runs", "show", "1", "--format", "json").out)["curves"]
    assert len(curves["val_loss"]["values"]) >= 3


@pytest.mark.slow
def test_a_killed_run_is_marked_at_the_next_command_and_loses_nothing_recorded(spirals, vr, tmp_path):
    process = _start(tmp_path)
    time.sleep(0.5)
    process.kill()
    process.communicate()
    assert rows(tmp_path, "SELECT count(*) FROM runs WHERE status = 'running'") == 1
    assert spirals().code == 0
    listed = json.loads(vr("runs", "list", "--format", "json").out)
    assert [r["status"] for r in listed] == ["completed", "interrupted"]
    curves = json.loads(vr("runs", "show", "1", "--format", "json").out)["curves"]
    assert len(curves["val_loss"]["values"]) >= 3


def test_an_error_in_training_ends_the_run_as_failed(vr, tmp_path):
    (tmp_path / "broken.py").write_text(
        "from vrcli.cli.scaffold.task_template import Spirals\n"
        "class Broken(Spirals):\n"
        "    name = 'broken'\n"
        "    def loss(self, model, batch):\n"
        "        raise RuntimeError('out of luck')\n"
    )
    done = vr("run", "broken:Broken", "--preset", "smoke")
    assert done.code == 1
    assert done.err.splitlines()[-1] == "vr: run 1 failed: RuntimeError: out of luck"
    assert rows(tmp_path, "SELECT count(*) FROM runs WHERE status = 'failed'") == 1


def test_a_run_that_fails_keeps_the_best_of_its_stored_epochs(tmp_path, vr):
    (tmp_path / "rude.py").write_text(
        "from vrcli.cli.scaffold.task_template import Spirals\n"
        "class Rude(Spirals):\n"
        "    name = 'rude'\n"
        "    def artifacts(self, model, *, epoch, last):\n"
        "        if epoch == 2:\n"
        "            raise RuntimeError('at the end of an epoch')\n"
        "        return {}\n"
    )
    assert vr("run", "rude:Rude", "--preset", "smoke", "--epochs", "5").code == 1
    row = json.loads(vr("runs", "list", "--format", "json").out)[0]
    assert row["status"] == "failed"
    assert row["results"]["best_val_loss"] > 0


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_run_in_order(tmp_path):
    words = f"{sys.executable} -m vrcli run {SPIRALS} --threads 1 --epochs 2000 2>&1 | head -1"
    subprocess.run(["bash", "-c", words], cwd=tmp_path, capture_output=True, timeout=120)
    assert rows(tmp_path, "SELECT count(*) FROM runs WHERE status = 'interrupted'") == 1


def test_a_setting_that_is_not_there_is_never_its_own_suggestion(vr):
    assert "did you mean --beta2?" not in vr("run", SPIRALS, "--opt", "sgd", "--beta2", "0.9").err


@pytest.mark.parametrize("words", [(), ("runs",)])
def test_no_arguments_print_the_help_as_help(vr, words):
    done = vr(*words)
    assert done.code == 0
    assert len(done.out.splitlines()) > 5


def test_a_run_has_one_optimizer(vr, tmp_path):
    done = vr("run", SPIRALS, "--opt", "adamw", "--opt", "sgd")
    assert (done.code, done.out) == (2, "")
    assert done.err == "vr: --opt is given 2 times; a run has one optimizer, vr compare takes several\n"
    assert not (tmp_path / "vr.db").exists()


@pytest.mark.parametrize("tag", ["", "  ", "x" * 256])
def test_a_tag_that_could_not_be_stored_is_refused(vr, tag):
    done = vr("run", SPIRALS, "--tag", tag)
    assert done.code == 2
    assert "--tag must have 1 to 255 letters" in done.err
