"""What lies in the folder where `vr` is called is executed when it is named, and never otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

STRAYS = (
    *("wcwidth", "pynvml", "tasks", "db", "typer", "torch", "numpy", "sqlalchemy", "bottleneck", "cupy"),
    *("random", "queue", "signal", "socket"),
)
OWN = '''
import helpers
import torch


class MyOpt(torch.optim.SGD):
    """Gradient descent of somebody's own."""

    def step(self, closure=None):
        import later

        later.called()
        return super().step(closure)
'''
TRAIN = (
    *("vrcli.cli.scaffold.task_template:Spirals", "--preset", "smoke", "--threads", "1", "--device", "cpu"),
    *("--opt", "mymodule:MyOpt"),
)
VR = (str(Path(sys.executable).with_name("vr")),)
MODULE = (sys.executable, "-m", "vrcli")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with strays, each of which leaves a trace and fails, and with an optimizer in modules of its own."""
    place = tmp_path / "work"
    place.mkdir()
    for name in (*STRAYS, "org/__init__", "mlflow/__init__"):
        file = place / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"open({str(tmp_path / 'trace')!r}, 'a').write({name!r} + '\\n')\nraise SystemExit({name!r})\n")
    (place / "mymodule.py").write_text(OWN)
    (place / "helpers.py").write_text("from parts import one\n")
    (place / "parts").mkdir()
    (place / "parts" / "one.py").write_text("")
    (place / "later.py").write_text(f"def called():\n    open({str(tmp_path / 'later')!r}, 'a').write('x')\n")
    return place


def call(program: Sequence[str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run([*program, *words], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    trace = folder.parent / "trace"
    assert not trace.exists(), (words, trace.read_text())
    return done


PROGRAMS = [pytest.param(VR, id="vr"), pytest.param(MODULE, id="python -m vrcli", marks=pytest.mark.slow)]


@pytest.mark.parametrize("program", PROGRAMS)
def test_nothing_is_executed_that_was_not_named(folder: Path, program: Sequence[str]) -> None:
    call(program, folder, "--help")
    call(program, folder, "run", *TRAIN)
    assert (folder.parent / "later").exists()
    for words in ("runs list", "runs show 1", "report", "plot curves --output a.svg"):
        call(program, folder, *words.split())


@pytest.mark.slow
@pytest.mark.parametrize("program", [PROGRAMS[0], pytest.param(MODULE, id="python -m", marks=pytest.mark.slow)])
def test_workers_find_what_was_named_and_nothing_else(folder: Path, program: Sequence[str]) -> None:
    # What a task starts in a worker gets the environment that the user gave.
    (folder / "mymodule.py").write_text(f"{OWN}\n\nimport os\n\nassert 'PYTHONSAFEPATH' not in os.environ\n")
    done = call(program, folder, "sweep", *TRAIN, "--trials", "2", "--jobs", "2")
    assert "best val loss" in done.stdout
    assert (folder.parent / "later").exists()


def test_an_installed_package_that_is_named_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vrcli.importing import in_working_directory

    (tmp_path / "stray_beside.py").write_text("")
    monkeypatch.chdir(tmp_path)
    in_working_directory("vrcli.errors:VrError")
    with pytest.raises(ModuleNotFoundError):
        exec("import stray_beside", {"__name__": "vrcli.elsewhere"})


def test_libraries_do_not_find_what_a_named_module_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vrcli.importing import in_working_directory

    (tmp_path / "named_here.py").write_text("import beside_it\nclass A: pass\ndef later():\n    import after_it\n")
    for name in ("beside_it", "after_it", "stray_here"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    in_working_directory("named_here:A")
    assert sys.path == before
    with pytest.raises(ModuleNotFoundError):
        import stray_here  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        in_working_directory("not_here_either:A")
    monkeypatch.chdir(tmp_path.parent)
    sys.modules["named_here"].later()  # the folder it came from, wherever the process has gone since
    assert {"beside_it", "after_it"} <= set(sys.modules)


def test_a_module_runs_as_it_is_written_and_not_as_it_was(tmp_path: Path) -> None:
    code = "from vrcli.importing import in_working_directory as named; print(named('own:A').x, named('own:A').y)"
    stamp = 1_700_000_000

    def imported(x: int) -> str:
        for name, text in (
            ("own", f"from own_part import y\nclass A:\n    x = {x}\n    y = y\n"),
            ("own_part", f"y = {x}"),
        ):
            (tmp_path / f"{name}.py").write_text(text)
            os.utime(tmp_path / f"{name}.py", (stamp, stamp))  # an edit within a second, of the same size
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=env)
        return done.stdout.strip() or done.stderr

    assert [imported(1), imported(2)] == ["1 1", "2 2"]
