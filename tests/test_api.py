"""The Python API: what the commands do, as functions; in real runs of tiny tasks."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import vrcli
from vrcli import api
from vrcli.cli.config_file import OF_TERMINAL
from vrcli.db.location import Location
from vrcli.db.store import Store
from vrcli.errors import UsageError
from vrcli.outcomes import CompareOutcome
from vrcli.record import begin
from vrcli.settings import RESERVED
from vrcli.study import events as e
from vrcli.tasks.registry import UnknownTask

SPIRALS = "vrcli.cli.scaffold.task_template:Spirals"
QUICK = {"preset": "smoke", "threads": 1}
FUNCTIONS = {name: getattr(api, name) for name in ("run", "sweep", "compare")}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def stored(path: str = "vr.db") -> list[Any]:
    with Store.open(path, mode="read") as store:
        return store.runs.select()


# -- one thing under three names --------------------------------------------------------------------------------------


def test_importing_vrcli_imports_nothing_slow() -> None:
    code = "import json, sys, vrcli; names = dir(vrcli); print(json.dumps([names, list(sys.modules)]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, modules = json.loads(done.stdout)
    assert set(vrcli.__all__) <= set(names)
    slow = {"torch", "sqlalchemy", "pandas", "numpy", "pydantic", "scipy", "typer", "rich", "tabulate", "vrcli.api"}
    assert not slow & set(modules)


def test_all_that_is_exported_is_there_and_nothing_else() -> None:
    assert set(vrcli.__all__) == {"__version__", "study", "track", *api.__all__}
    assert vrcli.track is begin.track
    assert all(getattr(vrcli, name) is getattr(api, name) for name in api.__all__)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        vrcli.train  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_commands_options_are_its_functions_parameters_with_the_same_defaults(name: str) -> None:
    from vrcli.cli.lazy import load

    command = {param.name: param for param in load(name).params if param.name != "help"}
    command["db"] = command.pop("database")
    assert command["db"].opts == ["--db"]
    parameters = dict(inspect.signature(FUNCTIONS[name]).parameters)
    assert parameters.pop("settings").kind is inspect.Parameter.VAR_KEYWORD
    assert parameters.pop("watch").default is None  # the terminal's displays watch the commands
    assert set(command) - (set(OF_TERMINAL) - set(parameters)) == set(parameters)
    assert set(OF_TERMINAL) & set(parameters) == ({"plan"} if name == "compare" else set())

    def plain(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    given = {n: plain(param.default() if callable(param.default) else param.default) for n, param in command.items()}
    assert given.pop("db") == "vr.db"
    assert command["db"].envvar == "VR_DB"
    usual = {n: param.default for n, param in parameters.items()}
    assert usual.pop("db") is None
    assert {n: value if value != () else None for n, value in given.items() if n in usual} == {
        n: value if value != () else None for n, value in usual.items()
    }


@pytest.mark.parametrize("name", [*FUNCTIONS, "plan", "load"])
def test_a_functions_documentation_names_every_parameter(name: str) -> None:
    function = getattr(api, name)
    arguments = (inspect.getdoc(function) or "").partition("Args:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^    (\w+):", arguments, re.M) == list(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_commands_help_is_its_functions_documentation(name: str) -> None:
    from vrcli.cli.lazy import COMMANDS

    assert (inspect.getdoc(FUNCTIONS[name]) or "").replace("\n", " ").startswith(COMMANDS[name])


def test_no_setting_of_a_task_hides_a_parameter() -> None:
    parameters = {name for f in FUNCTIONS.values() for name in inspect.signature(f).parameters}
    # `power` is not a word of `run`, where an optimizer has a setting of that name.
    assert parameters - {"settings", "power"} <= RESERVED


# -- run --------------------------------------------------------------------------------------------------------------


def test_a_run_is_what_the_command_stores(spirals: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    found = vrcli.run(SPIRALS, opt="vradam", beta3=0.5, seeds=2, seed=3, tag="mine", **QUICK)
    assert capsys.readouterr() == ("", "")
    runs = stored()
    assert [run.id for run in found.runs] == [1, 2]
    assert {(run.seed, run.tag, run.status) for run in runs} == {(3, "mine", "completed"), (4, "mine", "completed")}
    assert len({run.group for run in runs}) == 1
    done = spirals("--opt", "vradam", "--beta3", "0.5", "--seeds", "2", "--seed", "3", "--format", "json")
    bodies = json.loads(done.out)
    assert [body["spec_id"] for body in bodies] == [run.spec_id for run in found.runs]
    for body, mine in zip(bodies, found.as_json(), strict=True):
        assert body.keys() == mine.keys()
        assert body["results"]["best_val_loss"] == mine["results"]["best_val_loss"]


def test_an_outcome_of_runs_prints_as_the_command_does_and_gives_frames(spirals: Callable[..., Any]) -> None:
    found = vrcli.run(SPIRALS, opt="adamw", lr=0.02, **QUICK)
    printed = spirals("--opt", "adamw", "--lr", "0.02", "--quiet").out
    numbers = re.compile(r"run \d+ · \S+|[\d.]+ s\b|[\d,]+ samples/s")
    assert numbers.sub("", str(found)).split() == numbers.sub("", printed).split()
    assert repr(found) == str(found)
    assert found.frame().loc[0, ["optimizer", "lr", "seed"]].tolist() == ["adamw", 0.02, 0]
    curve = found.curves("val_loss")
    assert curve["value"].min() == found.runs[0].results["best_val_loss"]
    assert found.as_json()["id"] == 1


def test_a_watcher_gets_the_events_of_the_study_and_of_the_engine() -> None:
    seen: list[Any] = []
    found = vrcli.run(SPIRALS, watch=seen.append, **QUICK)
    kinds = [type(event).__name__ for event in seen]
    assert kinds[:3] == ["RunsPlanned", "RunBegan", "Started"]
    assert kinds[-3:] == ["Ended", "RunEnded", "Finished"]
    assert {"Steps", "Eval"} <= set(kinds)
    assert seen[-1].result is found.result


def test_a_change_on_the_users_behalf_is_an_event() -> None:
    notes = [event for event in events_of(vrcli.run, SPIRALS, batch_size=10_000, **QUICK) if isinstance(event, e.Note)]
    assert [note.kind for note in notes] == ["data"]
    assert "--batch-size 10000 is above the" in notes[0].facts["text"]


def events_of(function: Callable[..., Any], *words: Any, **more: Any) -> list[Any]:
    seen: list[Any] = []
    function(*words, watch=seen.append, **more)
    return seen


def test_a_watcher_that_raises_ends_the_run_and_keeps_what_it_recorded() -> None:
    def watch(event: Any) -> None:
        if type(event).__name__ == "Eval":
            raise RuntimeError("seen enough")

    with pytest.raises(RuntimeError, match="seen enough"):
        vrcli.run(SPIRALS, watch=watch, epochs=5, **QUICK)
    (run,) = stored()
    assert run.status == "interrupted"
    assert run.results["best_val_loss"] > 0


def test_a_run_leaves_torch_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        vrcli.run(SPIRALS, preset="smoke", threads=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.rand(3), expected)


def test_a_diverged_run_is_an_outcome_and_a_failed_one_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from vrcli.execute.run import RunFailed

    found = vrcli.run(SPIRALS, opt="sgd", lr=1e30, epochs=5, **QUICK)
    assert found.runs[0].status == "diverged"
    assert "diverged (loss" in str(found)
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "plugins"))
    with pytest.raises(RunFailed, match="no gradient today"):
        vrcli.run("valley:Valley", trouble="raise", threads=1)


def test_the_database_is_where_the_command_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VR_DB", "named.db")
    vrcli.run(SPIRALS, **QUICK)
    assert len(stored("named.db")) == 1
    for db in ("one.db", tmp_path / "two.db", f"sqlite:///{tmp_path}/three.db", Location("four.db")):
        assert len(vrcli.run(SPIRALS, db=db, **QUICK).curves("val_loss")) == 2
        with vrcli.load(db) as opened:
            assert len(opened.runs()) == 1
    assert {path.name for path in tmp_path.glob("*.db")} == {"named.db", "one.db", "two.db", "three.db", "four.db"}
    with vrcli.load() as opened:
        assert len(opened.runs()) == 1


# -- sweep and compare ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("inline")
def test_a_sweep_is_what_the_command_goes_on_with(vr: Callable[..., Any]) -> None:
    words = {"opt": ["adamw", "sgd"], "trials": 2, "search": "random", **QUICK}
    found = vrcli.sweep(SPIRALS, space={"lr": "log:1e-3:1e-1"}, fix={"weight_decay": 0, "nesterov": False}, **words)
    assert [one.definition.optimizer for one in found.searches] == ["adamw", "sgd"]
    assert found.best["sgd"].keys() == {"lr"}
    assert found.frame()["lr"].tolist() == [one["lr"] for one in found.best.values()]
    assert sorted(found.trials()["lr"]) == sorted(t.params["lr"] for one in found.searches for t in one.trials)
    assert found.curves("val_loss")["run"].nunique() == 4
    told = ("--trials", "3", "--search", "random", "--preset", "smoke", "--threads", "1", "--opt", "adamw")
    axes = ("--space", "lr=log:1e-3:1e-1", "--fix", "weight_decay=0", "--fix", "nesterov=False")
    done = vr("sweep", SPIRALS, *told, "--opt", "sgd", *axes)
    assert done.err.count("continues at 2/3") == 2
    again = vrcli.sweep(SPIRALS, space=["lr=log:1e-3:1e-1"], fix=["weight_decay=0", "nesterov=False"],
                        **{**words, "trials": 3})  # fmt: skip
    shown, _, steps = done.out.partition("\nnext ")  # the command has the words that were typed, Python has none
    assert shown == str(again).partition("\nnext ")[0]
    assert "--confirm-seeds 5" in steps
    assert again.as_json()["sweeps"][0]["trials"] == 3
    assert len(stored()) == 6


@pytest.mark.usefixtures("inline")
def test_a_plan_records_nothing_and_says_what_a_sweep_would_do(vr: Callable[..., Any], tmp_path: Path) -> None:
    planned = vrcli.plan(SPIRALS, opt="adamw", trials=7, epochs=3, **QUICK)
    assert not (tmp_path / "vr.db").exists()
    assert planned.left_s > 0
    assert "budget 7 trials x 3 epochs for each optimizer" in str(planned)
    done = vr("sweep", SPIRALS, "--opt", "adamw", "--trials", "7", "--epochs", "3", "--preset", "smoke", "--plan")
    assert [line.split() for line in str(planned).splitlines()[:3]] == [
        line.split() for line in done.out.splitlines()[:3]
    ]
    with pytest.raises(UsageError, match="--trials must be >= 1, got 0"):
        vrcli.plan(SPIRALS, trials=0)
    with pytest.raises(UsageError, match="--lr is a setting of adamw: --fix lr=VALUE"):
        vrcli.plan(SPIRALS, opt="adamw", lr=0.1)


@pytest.mark.usefixtures("inline")
def test_a_comparison_is_the_commands_and_runs_nothing_twice(vr: Callable[..., Any]) -> None:
    words = {"opt": ["adamw", "sgd"], "seeds": 3, "epochs": 8, "fix": {"lr": 0.05}, **QUICK}
    found = vrcli.compare(SPIRALS, power=True, target=0.6, **words)
    seen: list[Any] = []
    again = vrcli.compare(SPIRALS, watch=seen.append, **words)
    assert [event.reused for event in seen if isinstance(event, e.RunEnded)] == [True] * 6
    typed = ("--opt", "adamw", "--opt", "sgd", "--seeds", "3", "--epochs", "8", "--fix", "lr=0.05", "--preset", "smoke")
    done = vr("compare", SPIRALS, *typed, "--threads", "1", "--power", "--target", "0.6")
    assert "6 of the 6 runs were stored already" in done.err
    shown, _, steps = done.out.partition("\nnext ")  # the command has the words that were typed, Python has none
    assert shown.strip() == str(found).partition("\nnext ")[0].strip()
    assert f"vr compare {SPIRALS} {' '.join(typed)}" in steps
    assert vr("compare", SPIRALS, *typed, "--threads", "1", "--quiet").out.splitlines() == [found.verdict]
    assert again.as_json() == json.loads(vr("compare", SPIRALS, *typed, "--threads", "1", "--format", "json").out)
    assert len(stored()) == 6
    one = found.pairs().iloc[0]
    assert (one["a"], one["b"], one["better"]) == ("adamw", "sgd", found.comparisons[0].better)
    assert one["verdict"] == found.verdicts[0]
    frame = found.frame().groupby("optimizer")["test_loss"].mean()
    assert frame["adamw"] - frame["sgd"] == pytest.approx(one["difference"])
    assert found.tuned is None
    assert found.curves("val_loss")["run"].nunique() == 6
    assert {name: [run.seed for run in runs] for name, runs in found.runs.items()} == {
        "adamw": [1, 2, 3],
        "sgd": [1, 2, 3],
    }


@pytest.mark.usefixtures("inline")
def test_a_tuned_comparison_has_its_searches() -> None:
    found = vrcli.compare(SPIRALS, opt=["adamw", "sgd"], trials=2, searches=2, seeds=2, search="random", **QUICK)
    assert found.tuned is not None
    assert len(found.tuned.searches) == 4
    lrs = {run.settings["lr"] for run in found.runs["adamw"]}
    assert found.tuned.best["adamw"]["lr"] in {
        trial.params["lr"] for one in found.tuned.searches for trial in one.trials
    }
    assert len(lrs) == 2
    assert found.verdict in str(found)
    explained = str(CompareOutcome(found.database, found.result, explain=True))
    assert "over 2 independent searches of 2 trials each, 2 fresh seeds per search" in explained
    assert list(found.pairs()["verdict"]) == list(found.verdicts)


def test_every_refusal_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    refused: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
        (vrcli.run, {"beta9": 1}, "--beta9 is not a setting of vradam or spirals"),
        (vrcli.run, {"lr": -1}, "--lr must be > 0, got -1"),
        (vrcli.run, {"seeds": 0}, "--seeds must be >= 1, got 0"),
        (vrcli.run, {"seed": "1"}, "--seed must be int, got '1'"),
        (vrcli.run, {"threads": 9999}, "the cores of this machine, got 9999"),
        (vrcli.run, {"tag": " "}, "--tag must have 1 to 255 letters"),
        (vrcli.run, {"device": "tpu"}, "--device must be auto, cpu, cuda or mps, got tpu"),
        (vrcli.run, {"opt": 3}, "opt must be a name or a class made from torch.optim.Optimizer, got 3"),
        (vrcli.run, {"opt": ["adamw"]}, "opt must be a name or a class made from torch.optim.Optimizer, got ['adamw']"),
        (vrcli.sweep, {"opt": 3}, "opt must be a name or a class made from torch.optim.Optimizer, got 3"),
        (vrcli.run, {"task": torch.nn.Linear}, "task must be a name or a class made from vrcli.tasks.base.Task"),
        (vrcli.run, {"task": None}, "which task? One of cnn"),
        (vrcli.sweep, {"jobs": 0}, "for each core here, got 0"),
        (vrcli.sweep, {"lr": 0.1}, "--lr is a setting of vradam: --fix lr=VALUE"),
        (vrcli.sweep, {"confirm_seeds": -1}, "--confirm-seeds must be >= 0, got -1"),
        (vrcli.sweep, {"space": {"momentm": "0:1"}, "opt": "sgd"}, "did you mean momentum?"),
        (vrcli.compare, {"opt": "adamw"}, "--opt must be given at least twice"),
        (vrcli.compare, {"opt": ["adamw", "sgd"], "level": 1}, "--level must be in"),
        (vrcli.compare, {"opt": ["adamw", "sgd"], "search": "random"}, "--search is for a search"),
        (vrcli.compare, {"opt": ["adamw", "sgd"], "metric": "test_los"}, "did you mean test_loss?"),
        (vrcli.compare, {"opt": ["adamw", torch.optim.AdamW]}, "--opt adamw is given twice"),
    ]
    for function, words, expected in refused:
        with pytest.raises(UsageError) as caught:
            function(**{"task": SPIRALS, **words})
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2
    with pytest.raises(UnknownTask, match="did you mean cnn"):
        vrcli.run("cmn")
    assert list(tmp_path.iterdir()) == []


# -- the user's own classes -------------------------------------------------------------------------------------------

OWN = """
import torch
from vrcli.cli.scaffold.task_template import Spirals


class Mine(Spirals):
    name = "mine"


class Halved(torch.optim.SGD):
    '''Half a step.'''

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.mul_(0.5)
        return super().step(closure)
"""
SCRIPT = """
import vrcli
from own import Halved, Mine

if __name__ == "__main__":
    found = vrcli.compare(Mine, opt=[Halved, "adamw"], seeds=2, preset="smoke", jobs=2, fix={"lr": 0.1})
    print([[run.status for run in runs] for runs in found.runs.values()], list(found.runs), found.runs["adamw"][0].task)
"""


@pytest.mark.slow
def test_workers_find_the_users_classes_beside_a_script(tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    (place / "own.py").write_text(OWN)
    (place / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(place / "script.py")], cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[['completed', 'completed'], ['completed', 'completed']] ['own:Halved', 'adamw'] mine\n"
    assert len(stored(str(elsewhere / "vr.db"))) == 4


@pytest.mark.usefixtures("inline")
def test_a_class_is_stored_like_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vr: Callable[..., Any]
) -> None:
    (tmp_path / "owned.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    from owned import Halved, Mine  # type: ignore[import-not-found]

    found = vrcli.run(Mine, opt=Halved, lr=0.1, **QUICK)
    done = vr("run", "owned:Mine", "--opt", "owned:Halved", "--lr", "0.1", "--preset", "smoke", "--threads", "1",
              "--format", "json")  # fmt: skip
    assert json.loads(done.out)["spec_id"] == found.runs[0].spec_id
    assert found.runs[0].optimizer == "owned:Halved"


def test_classes_that_are_listed_have_the_names_they_are_listed_by() -> None:
    from vrcli.execute.lookup import optimizer_name, task_name
    from vrcli.optim import VRAdam
    from vrcli.tasks.cnn import Cnn

    assert (optimizer_name(torch.optim.AdamW), optimizer_name(VRAdam), task_name(Cnn)) == ("adamw", "vradam", "cnn")
    assert task_name(SPIRALS) == SPIRALS


def test_a_class_that_workers_would_not_find_is_refused_in_one_line(tmp_path: Path) -> None:
    class Inner(torch.optim.SGD):
        pass

    class Outer:
        class Nested(torch.optim.SGD):
            __qualname__ = "Outer.Nested"

    alone = type("Alone", (torch.optim.SGD,), {"__module__": "not_a_file"})
    main = type("Typed", (torch.optim.SGD,), {"__module__": "__main__", "__qualname__": "Typed"})
    refused = {
        Inner: "Inner is defined inside a function; put the class into a file of its own and import it from there",
        Outer.Nested: "opt Outer.Nested is defined inside another class",
        alone: "opt not_a_file.Alone cannot be imported from not_a_file again",
        main: "opt Typed is defined in the script or notebook itself; put the class into a file",
    }
    for found, expected in refused.items():
        with pytest.raises(UsageError) as caught:
            vrcli.compare(SPIRALS, opt=[found, "adamw"])
        assert expected in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_only_this_process_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import ModuleType

    module = ModuleType("made_here")
    monkeypatch.setitem(sys.modules, "made_here", module)
    exec("import torch\nclass Here(torch.optim.SGD): pass", module.__dict__)
    with pytest.raises(UsageError, match="cannot be imported from made_here again"):
        vrcli.run(SPIRALS, opt=module.Here)


# -- notebooks and terminals ------------------------------------------------------------------------------------------

HOSTILE = """
from dataclasses import replace
from vrcli.cli.scaffold.task_template import Spirals


class Hostile(Spirals):
    name = "hostile"

    def data(self, generator):
        return replace(super().data(generator), dataset="<img src=x onerror=alert(1)>", about="<script>2</script>")
"""


@pytest.mark.usefixtures("inline")
def test_html_has_the_tables_and_no_markup_of_a_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile.py").write_text(HOSTILE)
    shown = [
        vrcli.run("hostile:Hostile", **QUICK),
        vrcli.sweep("hostile:Hostile", opt="sgd", trials=2, search="random", **QUICK),
        vrcli.plan("hostile:Hostile", opt="sgd", trials=3, **QUICK),
        vrcli.compare("hostile:Hostile", opt=["adamw", "sgd"], seeds=2, **QUICK),
    ]
    for found in shown:
        text = found._repr_html_()
        assert text.count("<table>") == text.count("</table>") == 1 + (found is shown[3])  # pairs have a table, too
        tags = {"table", "thead", "tbody", "tr", "th", "td", "p", "br", "b", "code"}
        assert set(re.findall(r"<(\w+)", text)) <= tags
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown[0]._repr_html_()
    assert "&lt;script&gt;" in shown[2]._repr_html_()
    assert "Undecided between" in shown[3]._repr_html_() or "is better than" in shown[3]._repr_html_()


@pytest.mark.slow
def test_a_person_at_a_terminal_sees_progress_and_stdout_stays_empty(tmp_path: Path) -> None:
    import pexpect

    code = f"import vrcli; vrcli.run({SPIRALS!r}, preset='smoke', threads=1)"
    code += f"; vrcli.compare({SPIRALS!r}, opt=['adamw', 'sgd'], trials=2, seeds=2, preset='smoke', threads=1)"
    (tmp_path / "script.py").write_text(f"if __name__ == '__main__':\n    {code}\n")
    child = pexpect.spawn("sh", ["-c", f"{sys.executable} script.py > out.txt"], cwd=str(tmp_path), encoding="utf-8",
                          timeout=120, dimensions=(30, 120))  # fmt: skip
    child.expect("train loss")
    child.expect("objective: best validation loss")
    child.expect(r"sgd +seed 2")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert (tmp_path / "out.txt").read_text() == ""
