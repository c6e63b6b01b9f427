"""Listing and showing: runs, tasks, optimizers, the database; and the program's own manners."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vrcli.report import wording
from vrcli.report.wording import number
from vrcli.tasks import registry

ROOT = Path(__file__).parents[2]
SPIRALS = "vrcli.cli.scaffold.task_template:Spirals"


def test_runs_list_shows_the_learning_rate_and_what_differs(spirals, vr):
    spirals("--opt", "vradam", "--beta3", "1.0")
    spirals("--opt", "vradam", "--beta3", "2.0")
    done = vr("runs", "list")
    assert done.code == 0
    header, newest, oldest = done.out.splitlines()
    assert header.split()[:4] == ["id", "when", "task", "dataset"]
    assert "beta3=2" in newest
    assert "beta3=1" in oldest
    assert "lr=" in newest
    assert "beta1" not in newest
    assert "completed" in newest


def test_runs_show_has_settings_provenance_plot_and_a_command_that_repeats_it(spirals, vr):
    first = json.loads(spirals("--opt", "sgd", "--lr", "0.03", "--momentum", "0.9", "--format", "json").out)
    shown = vr("runs", "show", "1").out
    for word in ("momentum=0.9", "versions", "torch", "data", "val_loss", "repeat it with"):
        assert word in shown, word
    assert vr("runs", "show", first["name"]).out.splitlines()[0] == shown.splitlines()[0]
    command = shown.splitlines()[-1].split()
    assert command[:2] == ["vr", "run"]
    assert command[2] == SPIRALS  # not a registered task: as it was typed
    again = json.loads(vr(*command[1:], "--format", "json").out)
    assert again["spec_id"] == first["spec_id"]
    assert again["results"]["best_val_loss"] == first["results"]["best_val_loss"]


def test_runs_show_refuses_what_is_not_there(spirals, vr):
    assert vr("runs", "show", "1").code == 2  # no database yet
    spirals()
    for words, expected in (
        (["9"], "9"),
        (["no-such-run"], "no-such-run"),
        (["1", "--metric", "val_los"], "did you mean val_loss?"),
        (["1", "--samples", "out.png"], "has no pictures"),
    ):
        done = vr("runs", "show", *words)
        assert done.code == 2
        assert expected in done.err
        assert len(done.err.splitlines()) == 1


def test_tasks_list_and_a_task_that_fails_to_import_breaks_nothing(vr, monkeypatch):

    broken = {**registry.targets(), "broken": ("nowhere.at.all:Task", "some-plugin")}
    monkeypatch.setattr(registry, "targets", lambda: broken)
    done = vr("tasks", "list", "--format", "json")
    rows = {row["task"]: row for row in json.loads(done.out)}
    assert rows["broken"]["summary"].startswith("unavailable: ModuleNotFoundError")
    assert {"cnn", "transformer", "gflownet", "diffusion"} <= set(rows)
    assert "unavailable" not in rows["cnn"]["summary"]


def test_tasks_show_says_where_every_number_comes_from(vr):
    rows = json.loads(vr("tasks", "show", "cnn", "--preset", "paper", "--format", "json").out)["settings"]
    by_name = {row["setting"]: row for row in rows}
    assert by_name["epochs"]["value"] == "100"
    assert by_name["epochs"]["where from"].startswith("stated:")
    assert by_name["vradam.beta3"]["value"] == "1.015"
    assert all(row["where from"].startswith(("stated: ", "assumed: ", "default")) for row in rows)
    assert vr("tasks", "show", "cnn", "--preset", "papr").code == 2


def test_tasks_new_writes_a_task_that_passes_its_check(vr, tmp_path, monkeypatch):
    made = vr("tasks", "new", "my_swirl")
    assert made.code == 0
    assert "cd my_swirl && vr tasks check my_swirl_task:MySwirl " in made.err
    assert "vr run my_swirl_task:MySwirl " in made.err
    assert "python -m pip install -e . " in made.err
    for name in ("Bad", "class", "cnn", "1st"):
        assert vr("tasks", "new", name).code == 2
    assert vr("tasks", "new", "my_swirl").code == 2  # never written over
    monkeypatch.chdir(tmp_path / "my_swirl")
    done = vr("tasks", "check", "my_swirl_task:MySwirl")
    assert done.code == 0, done.out
    assert "FAIL" not in done.out


def test_tasks_check_fails_on_a_task_that_breaks_the_contract(vr, tmp_path):
    (tmp_path / "bad.py").write_text(
        "import torch\nfrom vrcli.cli.scaffold.task_template import Spirals\n"
        "class Bad(Spirals):\n"
        "    def evaluate(self, model, split):\n"
        "        return {'loss': 1.0}\n"
        "    def train_batch(self, split, index, generator):\n"
        "        x, y = split.take(index)\n"
        "        return x + torch.randn_like(x), y\n"
    )
    done = vr("tasks", "check", "bad:Bad")
    assert done.code == 1
    failed = [line for line in done.out.splitlines() if line.startswith("FAIL")]
    assert any("declared are ['loss', 'accuracy']" in line for line in failed)
    assert any("it draws from the global one" in line for line in failed)


def test_opts_list_show_and_patterns(vr):
    rows = {row["optimizer"]: row for row in json.loads(vr("opts", "list", "--format", "json").out)}
    assert {"vradam", "vrmomentum", "adamw", "sgd", "lbfgs"} <= set(rows)
    assert rows["adamw"]["from"] == "torch"
    assert "closure" in rows["lbfgs"]["needs"]
    listed = [row["optimizer"] for row in json.loads(vr("opts", "list", "ada*", "--format", "json").out)]
    assert {"adam", "adamw", "adagrad"} <= set(listed)
    assert all(name.startswith("ada") for name in listed)
    shown = vr("opts", "show", "vradam").out
    assert "lr_cutoff" in shown
    assert "search space" in shown
    assert vr("opts", "show", "vradm").err.count("did you mean vradam?") == 1


def test_opts_list_counts_what_is_not_installed(vr, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)  # as if it were not there
    shown = vr("opts", "list")
    assert "adabelief" not in shown.out
    assert " more of pytorch-optimizer, which is not installed: pip install 'vrcli[zoo]'" in shown.out
    only = vr("opts", "list", "dadapt*")
    assert only.out == "5 optimizers of pytorch-optimizer, which is not installed: pip install 'vrcli[zoo]'\n"
    rows = {row["optimizer"]: row for row in json.loads(vr("opts", "list", "--format", "json").out)}
    assert (rows["adamw"]["installed"], rows["adabelief"]["installed"]) == (True, False)


def test_opts_list_says_in_plain_words_what_is_special(vr):
    shown = vr("opts", "list", "adashift").out
    assert "begins again after a stop" in shown
    assert "no_resume" not in shown


@pytest.mark.parametrize("format", ["markdown", "csv", "json", "latex", "html", "grid"])
def test_report_in_every_kind_of_format(spirals, vr, format):
    for seed in ("0", "1"):
        spirals("--opt", "vradam", "--seed", seed)
        spirals("--opt", "adamw", "--seed", seed)
    done = vr("report", "--format", format)
    assert done.code == 0
    for word in ("vradam", "adamw", "spirals"):
        assert word in done.out


@pytest.mark.slow
def test_every_table_shows_what_tells_a_degenerate_policy(vr):
    small = ["gflownet", "--preset", "smoke", "--opt", "adamw"]
    run = vr("run", *small, "--epochs", "1")
    values = json.loads(vr("runs", "show", "1", "--format", "json").out)["results"]
    compared = vr("compare", *small, "--opt", "sgd", "--seeds", "2", "--epochs", "1").out
    tables = {"run": run.err, "outcome": run.out, "show": vr("runs", "show", "1").out, "compare": compared,
              "list": vr("runs", "list").out, "report": vr("report").out}  # fmt: skip
    for where, text in tables.items():
        for name in ("length", "distinct", "diversity"):
            assert name in text, (where, name)
    assert number(values["val_length"]) in tables["list"]
    cnn = vr("run", SPIRALS, "--preset", "smoke", "--opt", "adamw", "--db", "other.db")
    assert cnn.code == 0
    assert "length" not in vr("report", "--db", "other.db").out + vr("runs", "list", "--db", "other.db").out


def test_report_of_nothing_is_a_helpful_line(vr, spirals):
    assert vr("report").code == 2  # no database: where is it?
    spirals("--opt", "adamw")
    done = vr("report", "--opt", "sgd")
    assert (done.code, done.out) == (2, "")
    assert "no stored run has it" in done.err
    wrong = vr("report", "--format", "markdwn")
    assert wrong.code == 2
    assert "did you mean markdown?" in wrong.err


def test_db_commands(spirals, vr, tmp_path):
    spirals()
    info = json.loads(vr("db", "info", "--format", "json").out)
    assert info["runs"] == 1
    shown = vr("db", "info").out
    assert f"\nsize             {wording.size(info['size_bytes'])}\n" in shown
    assert "\ncheckpoint size  0 bytes\n" in shown
    assert "no problems" in vr("db", "check").out
    assert vr("db", "backup", "copy.db").code == 0
    assert json.loads(vr("runs", "list", "--db", "copy.db", "--format", "json").out)[0]["id"] == 1
    assert vr("db", "backup", "copy.db").code == 2


def test_help_imports_nothing_heavy():
    """A figure of speed that does not depend on the machine: which modules `vr --help` loads."""
    code = (
        "import sys; sys.argv = ['vr', '--help']\n"
        "from vrcli.cli.app import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'sqlalchemy', 'pydantic', 'rich', 'datasets', 'skopt'} & set(sys.modules)\n"
        "heavy |= {m for m in sys.modules if m.startswith('vrcli.cli.')} - {'vrcli.cli.app', 'vrcli.cli.lazy'}\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "HEAVY []" in done.stdout


def test_a_reader_that_goes_away_is_no_error(spirals, tmp_path):
    spirals()
    command = f"{sys.executable} -m vrcli opts list | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""


def test_completion_knows_the_settings_of_the_task(tmp_path):
    env = {**os.environ, "_VR_COMPLETE": "complete_bash", "COMP_WORDS": f"vr run {SPIRALS} --tu", "COMP_CWORD": "3"}
    done = subprocess.run([sys.executable, "-m", "vrcli"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "--turns" in done.stdout


def test_module_and_script_are_the_same():
    done = subprocess.run([sys.executable, "-m", "vrcli", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("vr ")


def test_unexpected_errors_are_one_line_unless_debugged(vr, monkeypatch):
    from vrcli.cli import tasks

    def broken() -> None:
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr(tasks, "catalogue", broken)
    done = vr("tasks", "list")
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert "unexpected ZeroDivisionError: by chance" in done.err
    done = vr("tasks", "list", "--debug")
    assert done.code == 1
    assert done.err.startswith("Traceback")
    assert "ZeroDivisionError: by chance" in done.err


def test_lists_do_not_wait_for_libraries_that_they_do_not_need(stored, tmp_path):
    stored()
    words = [sys.executable, "-X", "importtime", "-m", "vrcli", "runs", "list"]
    done = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "sqlalchemy" in loaded
    assert not loaded & {"scipy", "numpy", "torch", "matplotlib", "pandas"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("runs list --limit x", "--limit must be a whole number, got 'x'"),
        ("runs list -n 2.5", "--limit must be a whole number, got '2.5'"),
        ("runs list -n 0", "--limit must be >= 1, got 0"),
        ("runs list -n 2147483648", "--limit must be <= 2,147,483,647, got 2147483648"),
        ("plot field --lr x", "--lr must be a number, got 'x'"),
    ],
)
def test_a_number_that_is_none_or_out_of_range_is_refused_in_a_plain_line(
    vr: Callable[..., Any], words: str, said: str
) -> None:
    done = vr(*words.split())
    assert (done.code, done.out, done.err) == (2, "", f"vr: {said}\n")
