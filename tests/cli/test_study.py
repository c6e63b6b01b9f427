"""`vr study`: an experiment of one's own, with a task and an optimizer of third parties, run, killed and shown."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vrcli
from vrcli.db.store import Store
from vrcli.report.study.written import drawn
from vrcli.studies import read_study
from vrcli.study.events import PartEnded, TrialEnded

OWN = Path(__file__).parents[1] / "study" / "own.toml"
PLUGINS = Path(__file__).parents[1] / "plugins"
#: Two searches of 3 trials, their best trained again 3 x 3 times, 2 fresh seeds; then 3 seeds of 4 optimizers.
SEARCHED, STATED = 2 * 2 * (3 + 9 + 2), 3 * 4


@pytest.fixture
def study(vr, valley, inline, tmp_path):
    """`vr study` beside the file own.toml."""
    shutil.copy(OWN, tmp_path)
    return lambda *words: vr("study", *words)


def finished(database: Path) -> list[tuple]:
    """What identifies every finished run, with what it came to."""
    with Store.open(database, mode="read") as store:
        runs = store.runs.select()
    assert {run.status for run in runs} <= {"completed", "diverged"}
    return sorted((run.optimizer, run.seed, run.configuration, run.best, run.results.get("test_loss")) for run in runs)


@pytest.fixture
def whole(study, written_once):
    """`vr study` beside the file own.toml and a database in which all of it is stored."""
    written_once("the whole study", lambda _: study("run", "own", "--threads", "1").code)
    return study


def test_a_study_of_third_parties_runs_once_and_is_shown_beside_its_source(whole, tmp_path) -> None:
    study, before = whole, finished(tmp_path / "vr.db")
    done = study("run", "own", "--threads", "1", "--format", "json")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert {name: (one["stored"], one["planned"]) for name, one in body["parts"].items()} == {
        "searched": (SEARCHED, SEARCHED), "stated": (STATED, STATED),
    }  # fmt: skip
    assert len(before) == SEARCHED + STATED
    assert finished(tmp_path / "vr.db") == before
    shown = study("report", "own")
    assert shown.code == 0
    assert "the source" in shown.out
    verdicts = {(one["claim"], one["part"]): one["verdict"] for one in body["claims"]}
    assert len(verdicts) == 8
    for part in ("searched", "stated"):
        less, more = (verdicts[f"Old has a {word} test loss than New", part] for word in ("lower", "higher"))
        opposite = {"reproduced": "contradicted", "contradicted": "reproduced"}
        assert more == opposite.get(less, less)


def test_the_verdicts_are_those_of_the_comparison_itself(study, tmp_path) -> None:
    assert study("run", "own", "--only", "stated", "--threads", "1", "-q").code == 0
    found = vrcli.compare(
        "valley:Valley", opt=["vradam", "alike:First", "adamw", "vradam@none:beta3=0"], seeds=3,
        fix=["alike:First.lr=0.05", "adamw.lr=0.02"], metric="test_loss", threads=1, device="cpu",
        db=tmp_path / "vr.db",
    )  # fmt: skip
    assert len(finished(tmp_path / "vr.db")) == STATED  # every run of the study does for the comparison
    pair = next(one for one in found.comparisons if {one.a, one.b} == {"vradam", "alike:First"})
    read = json.loads(study("report", "own", "--format", "json").out)
    said = {one["claim"]: one["verdict"] for one in read["claims"] if one["part"] == "stated"}
    expected = {"alike:First": "reproduced", "vradam": "contradicted", None: "not decided at this n"}[pair.better]
    assert said["Old has a lower test loss than New"] == expected
    others = [one["verdict"] for one in read["claims"] if one["part"] == "searched"]
    assert set(others) == {"not finished"}


def test_the_bands_of_figures_are_over_searches_where_something_was_searched(whole, tmp_path) -> None:
    """Fresh seeds of one search share its choice: an interval over them all would be too narrow."""
    result = read_study(tmp_path / "own.toml").result
    envelope, _, telemetry = result.study.study.figures
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        for figure in (envelope, telemetry):
            rows = drawn(result, figure, store, []).rows
            assert {(row["section"], row["runs"], row["units"]) for row in rows} == {
                ("searched", 4, 2), ("stated", 3, 3),
            }  # fmt: skip


def test_a_table_of_what_no_source_states_has_no_column_for_it(whole, tmp_path) -> None:
    study, path = whole, tmp_path / "own.toml"
    path.write_text(re.sub(r"\[\[values\]\]\n(?:\w.*\n)+", "", path.read_text()))
    shown = study("report", "own").out
    assert "test loss" in shown
    assert "the source" not in shown


def test_a_page_is_made_again_from_the_runs_beside_it(whole, tmp_path) -> None:
    study = whole
    assert study("report", "own", "--output", "page").code == 0
    assert study("report", "own", "--db", "page/runs.sqlite", "--output", "again").code == 0
    first, second = tmp_path / "page", tmp_path / "again"
    names = sorted(path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file())
    assert names == [
        "figures/01-envelope.png", "figures/02-trials.png", "figures/03-telemetry.png", "page.md", "runs.sqlite",
        "study.toml",
    ]  # fmt: skip
    (tmp_path / "own.toml").unlink()  # the page has a copy
    assert study("report", "page/study.toml", "--db", "page/runs.sqlite", "--output", "moved").code == 0
    for name in names:
        for other in (second, tmp_path / "moved"):
            if name != "runs.sqlite":
                assert (first / name).read_bytes() == (other / name).read_bytes(), name
    assert all((first / name).stat().st_size < 200_000 for name in names if name.endswith(".png"))
    page = (first / "page.md").read_text()
    assert "| New" in page
    settings = page.split("## Settings")[1].split("##")[0]
    assert re.search(r"\| stated +\| Old \(alike:First\) +\| lr=0\.05", settings), settings
    assert re.search(r"\| searched +\| New \(vradam\) +\| lr=[\d.e-]+\.\.[\d.e-]+ ", settings), settings
    assert "## Claims" in page
    assert "vr study report study.toml" in page
    assert str(tmp_path) not in page
    assert study("report", "page/study.toml", "--output", "page").code == 0  # vr wrote it, so vr replaces it


def test_a_folder_with_other_files_is_no_place_for_a_page(study, tmp_path) -> None:
    assert study("run", "own", "--scale", "small", "--threads", "1", "-q").code == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    refused = study("report", "own", "--output", "mine")
    assert refused.code == 2
    assert "holds other files" in refused.err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"


def test_a_reduced_scale_decides_order_only_and_no_distance(study) -> None:
    done = study("run", "own", "--scale", "small", "--threads", "1", "--format", "json")
    body = json.loads(done.out)
    assert body["scale"] == "small"
    said = {(one["claim"], one["part"]): one["verdict"] for one in body["claims"]}
    assert said["Old and New are equal in test loss within 1%", "stated"] == "not run at this scale"
    assert said["Old has a lower test loss than New", "searched"] == "not run at this scale"
    assert said["Old has a lower test loss than New", "stated"] != "not run at this scale"
    text = study("report", "own").out  # of the scale that ran
    assert "scale small: no search; reduced" in text
    assert "− source" not in text


def test_a_plan_counts_what_is_stored_and_times_the_rest(study) -> None:
    first = json.loads(study("plan", "own", "--threads", "1", "--format", "json").out)
    assert [one["optimizers"]["vradam"]["runs"] for one in first["parts"]] == [SEARCHED // 2, 3]
    assert first["left_s"] > 0
    study("run", "own", "--only", "stated", "--threads", "1", "-q")
    second = json.loads(study("plan", "own", "--threads", "1", "--format", "json").out)
    assert [one["optimizers"]["vradam"]["stored"] for one in second["parts"]] == [0, 3]
    assert second["parts"][1]["left_s"] == 0


def test_an_optimizer_that_fails_costs_no_other_its_result(study, tmp_path) -> None:
    text = OWN.read_text().replace('Third = "adamw"', 'Third = "failing:Failing"')
    (tmp_path / "own.toml").write_text(text)
    done = study("run", "own", "--only", "stated", "--threads", "1", "--format", "json")
    assert done.code == 1
    part = json.loads(done.out)["parts"]["stated"]
    assert part["complete"]
    assert list(part["failed"]) == ["failing:Failing"]
    assert "no step today" in part["failed"]["failing:Failing"]
    assert {one["verdict"] for one in json.loads(done.out)["claims"] if one["part"] == "stated"} != {"not finished"}
    assert "failing:Failing could not be compared" in study("report", "own").out


def test_a_part_of_which_all_optimizers_fail_ends_with_the_reason(study, valley, inline, tmp_path) -> None:
    text = re.sub(
        "optimizers = {.*}", 'optimizers = { New = "failing:Failing", Old = "failing:Other" }', OWN.read_text()
    )
    text = re.sub("(?m)^(fix|space) = .*$", "", text)
    (tmp_path / "own.toml").write_text(text)
    told: list = []
    found = vrcli.study(tmp_path / "own.toml", only="stated", threads=1, watch=told.append)
    (ended,) = [event for event in told if isinstance(event, PartEnded)]
    assert ended.part == "stated"
    assert "no step today" in ended.reason
    assert found.failed["stated"]


def test_searches_on_other_data_are_not_taken_for_a_part_of_this_one(study, valley, inline, tmp_path) -> None:
    (tmp_path / "scale.txt").write_text("1.0")
    text = (
        OWN.read_text()
        .replace("valley:Valley", "filed:Filed")
        .replace("[parts.searched]", f'[parts.searched]\nsettings = {{ dataset = "{tmp_path / "scale.txt"}" }}')
    )
    (tmp_path / "own.toml").write_text(text.split("[parts.stated]")[0])
    path = tmp_path / "own.toml"
    first = vrcli.study(path, threads=1).result.found["searched"]
    assert first.complete
    (tmp_path / "scale.txt").write_text("2.0")
    seen: list = []

    def watch(event) -> None:
        seen.append(event)
        if sum(isinstance(one, TrialEnded) for one in seen) == 4:
            raise Enough

    with pytest.raises(Enough):
        vrcli.study(path, threads=1, watch=watch)
    again = read_study(path).result.found["searched"]
    assert again.complete
    assert again.others == len(finished(tmp_path / "vr.db")) - first.done > 0
    assert {run.dataset_fingerprint for own in again.runs.values() for run in own} == {
        run.dataset_fingerprint for own in first.runs.values() for run in own
    }


class Enough(Exception):
    """Enough was seen."""


def test_missing_data_are_told_before_anything_runs(study, tmp_path) -> None:
    data = '[data.heights]\ndownload = "the heights"\nsize_mb = 12\npath = "heights"\n\n'
    text = OWN.read_text().replace("[parts.stated]", data + '[parts.stated]\nsettings = { dataset = "heights" }')
    (tmp_path / "own.toml").write_text(text)
    shown = study("plan", "own", "--only", "stated", "--threads", "1", "--data-dir", str(tmp_path))
    assert shown.code == 0
    assert f"heights is not in {tmp_path}: download the heights (12 MB), which gives heights there" in shown.out
    (tmp_path / "elsewhere").mkdir()
    words = ("--dataset", f"heights={tmp_path / 'elsewhere'}")
    assert "is not in" not in study("plan", "own", "--only", "stated", "--threads", "1", *words).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "onw"), "no study onw; did you mean own?"),
        (("run", "own", "--scale", "smal"), "--scale smal is not a scale of own; did you mean small?"),
        (("run", "own", "--only", "statd"), "--only statd is not part of own; did you mean stated?"),
        (("run", "own", "--dataset", "x"), "--dataset x: write NAME=FOLDER"),
        (("run", "own", "--dataset", "x=nowhere"), "--dataset x=nowhere: there is no folder nowhere"),
        (("report", "own"), "there is no vr.db here"),
        (("new", "a/b"), "a/b cannot name a study"),
        (("new", "own"), "own.toml is there already; name another study"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(study, tmp_path, words, said) -> None:
    refused = study(*words)
    assert refused.code == 2
    assert said in refused.err
    assert len(refused.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.toml"]


def test_a_new_study_has_no_fault_and_says_what_it_runs(study) -> None:
    assert study("new", "mine").code == 0
    assert study("check", "mine").out == "mine has no fault\n"
    assert "mine" in study("list").out
    shown = study("show", "mine", "--scale", "tiny").out
    assert "assumed: best of 0.003, 0.01, 0.03 (3 seeds)" in shown
    assert "changed at this scale: no search, not 5 of 8 trials" in shown


def test_check_prints_every_fault_and_says_so_by_its_exit_code(study, tmp_path) -> None:
    (tmp_path / "own.toml").write_text(OWN.read_text().replace("trials = 3", "trails = 3").replace("skip", "ski"))
    done = study("check", "own.toml")
    assert done.code == 2
    assert len(done.err.splitlines()) == 2


def test_the_same_from_python(valley, inline, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = vrcli.study(OWN, scale="small", threads=1)
    assert found.complete
    assert found.failed == {}
    assert {one.part for one in found.claims} == {"searched", "stated"}
    assert set(found.parts) == {"stated"}
    assert "A study of one's own" in found._repr_html_().replace("&#x27;", "'")


def test_a_terminal_sees_the_progress_of_a_study_from_python(study, valley, inline, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    vrcli.study("own", scale="small", threads=1)
    assert "part 1 of 1: stated" in capsys.readouterr().err


def test_a_study_of_which_nothing_is_stored_is_shown_at_full_scale(study, tmp_path) -> None:
    Store.open(tmp_path / "vr.db").close()
    assert read_study("own", db=tmp_path / "vr.db").result.study.name == "full"


# -- killed -----------------------------------------------------------------------------------------------------------


def begun(database: Path, *words: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": f"{PLUGINS}:{PLUGINS.parents[1]}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vrcli", "study", "run", str(OWN), "--threads", "1", "--db", str(database)]
    return subprocess.Popen(
        [*command, *words],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def kill(database: Path, words: tuple[str, ...], lines: int, delay_s: float) -> bool:
    """Kill the study with its workers some time after so many lines; whether it was still running."""
    with begun(database, *words) as process:
        for _, _line in zip(range(lines), process.stderr, strict=False):
            pass
        time.sleep(delay_s)
        alive = process.poll() is None
        if alive:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return alive


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kills", "words"), [(2, ("--only", "stated")), pytest.param(10, (), marks=pytest.mark.slow)], ids=["2", "10"]
)
def test_a_study_that_is_killed_ends_with_the_same_runs(tmp_path, kills, words) -> None:
    whole, broken, rng = tmp_path / "whole.db", tmp_path / "broken.db", random.Random(kills)
    with begun(whole, *words) as process:
        lines = sum(1 for _ in process.stderr)
    assert process.returncode == 0
    made = 0
    while made < kills:
        made += kill(broken, words, rng.randrange(1, 2 + lines // 4), rng.uniform(0.0, 0.3))
    with begun(broken, *words) as process:
        process.communicate()
    assert process.returncode == 0
    with Store.open(broken, mode="read") as store:
        runs = [run for run in store.runs.select() if run.status in ("completed", "diverged")]
        assert not [run for run in store.runs.select() if run.status == "running"]
    found = sorted((r.optimizer, r.seed, r.configuration, r.best, r.results.get("test_loss")) for r in runs)
    assert found == finished(whole)
