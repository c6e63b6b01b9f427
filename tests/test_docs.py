"""The documentation: its commands run, its Python too, its links lead somewhere, and its reference is whole."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "stats"))
from documents import ROOT, blocks, commands, write_files

from vrcli.cli.lazy import COMMANDS, load

DOCS = ROOT / "docs"
#: Pages as people write them, by their path in the site.
WRITTEN = {path.relative_to(DOCS).as_posix(): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
BESIDE = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")}
ALL = WRITTEN | BESIDE
TOUR = "tutorial/index.md"
NOTEBOOKS = "how-to/notebooks.md"
GUIDES = [name for name in WRITTEN if name != TOUR and blocks(WRITTEN[name], "sh", "python")]
#: Trains with libraries that take long to load, in processes of their own.
LONG = "how-to/own-training.md"
#: Programs that pages use beside `vr`.
OTHERS = {
    "cd",
    "export",
    "git",
    "mkdocs",
    "mlflow",
    "mv",
    "pip",
    "pre-commit",
    "python",
    "rm",
    "sqlite3",
    "tensorboard",
    ".",
    "uv",
}
#: What a test makes of the numbers of a command that trains.
SMALL = {"--trials": "1", "--searches": "2", "--seeds": "2", "--jobs": "1", "--confirm-seeds": "1"}


@cache
def made() -> Mapping[str, str]:
    """Pages that are made from the code."""
    sys.path.insert(0, str(DOCS))
    import hooks

    return hooks.pages()


def small(words: Sequence[str]) -> list[str]:
    """The same command with the smoke preset and small numbers."""
    if words[0] not in ("run", "sweep", "compare"):
        return list(words)
    found = [SMALL.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    if words[0] == "compare" and "--trials" in words:
        found += ["--searches", "2", "--seeds", "2"]
    return found + ([] if "--preset" in words or "--command" in words else ["--preset", "smoke"])


class Reader:
    """Someone who does what a page says, in one folder and one process."""

    def __init__(self, vr: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.vr, self.monkeypatch = vr, monkeypatch
        self.names: dict[str, Any] = {}

    def follow(self, text: str, folder: Path) -> None:
        write_files(text, folder)
        for block in blocks(text, "sh", "python"):
            if block.mark or block.title:
                continue
            if block.language == "python":
                exec(block.body, self.names)
            else:
                for words in commands(block):
                    self.do(words)

    def do(self, words: list[str]) -> None:
        program, *rest = words
        if program == "vr":
            done = self.vr(*small(rest))
            assert done.code == 0, (words, done.out[-1500:], done.err[-1500:])
        elif program == "export":
            self.monkeypatch.setenv(*rest[0].split("=", 1))
        elif program == "cd":
            self.monkeypatch.chdir(rest[0])
        elif program == "python":
            subprocess.run([sys.executable, *rest], check=True, capture_output=True)
        elif shutil.which(program):
            subprocess.run(words, check=True, capture_output=True)


@pytest.fixture(scope="module")
def databases() -> dict[str, bytes]:
    """What the tour left behind, by file name."""
    return {}


@pytest.fixture
def reader(
    vr: Callable[..., Any], inline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: dict[str, bytes]
) -> Reader:
    """A reader who has done the tour."""
    monkeypatch.setenv("VR_DB", "vr.db")  # restored at the end, whatever a page exports
    monkeypatch.delenv("VR_DB")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # the `python` of a --command
    found = Reader(vr, monkeypatch)
    if not databases:
        found.follow(WRITTEN[TOUR], tmp_path)
        databases["tour.db"] = (tmp_path / "tour.db").read_bytes()
        for path in tmp_path.iterdir():
            path.unlink()
        monkeypatch.delenv("VR_DB")
    for name in ("tour.db", "vr.db"):
        (tmp_path / name).write_bytes(databases["tour.db"])
    return found


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow) if page == LONG else page for page in GUIDES]
)
def test_what_a_page_says_works(page: str, reader: Reader, tmp_path: Path) -> None:
    reader.follow(WRITTEN[page], tmp_path)
    if page == NOTEBOOKS:
        names = reader.names
        assert names["run"].runs[0].settings["beta3"] == 1.0
        assert names["found"].pairs()["a"].tolist() == ["vradam"]
        assert {"vradam", "adamw", "sgd"} <= set(names["curves"]["optimizer"])


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_command_runs_as_it_stands(tmp_path: Path) -> None:
    """In a shell, the tour first; installations go to a folder on the path."""
    pytest.importorskip("pip", reason="an environment made by uv has no pip")
    site, tools = tmp_path / "site", Path(sys.executable).parent
    pip = f"pip() {{ '{sys.executable}' -m pip install -q --no-deps --no-build-isolation --no-index --upgrade --target"
    pip += ' "$SITE" "./${@: -1}"; }\n'
    for page in [TOUR, *GUIDES]:
        folder = tmp_path / page.replace("/", "-")
        folder.mkdir()
        if page != TOUR:
            for name in ("tour.db", "vr.db"):
                shutil.copy(tmp_path / TOUR.replace("/", "-") / "tour.db", folder / name)
        env = {**os.environ, "SITE": str(site), "PYTHONPATH": str(site), "PATH": f"{tools}:{os.environ['PATH']}"}
        write_files(WRITTEN[page], folder)
        script = [pip]
        for number, block in enumerate(blocks(WRITTEN[page], "sh", "python")):
            if (
                block.mark == "checked"
                or block.title
                or (block.body.startswith("sqlite3") and not shutil.which("sqlite3"))
            ):
                continue
            if block.language == "python":
                (folder / f"block{number}.py").write_text(_guarded(WRITTEN[page], number))
                script.append(f"python block{number}.py")
            else:
                script.append(block.body)
        done = subprocess.run(["bash", "-ec", "\n".join(script)], cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{page}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


def _guarded(text: str, number: int) -> str:
    """The Python of a page up to a block, as a script that may start processes."""
    bodies = [
        block.body
        for block in blocks(text, "sh", "python")[: number + 1]
        if block.language == "python" and not block.title
    ]
    return "if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in "".join(bodies).splitlines())


@pytest.mark.parametrize("page", [name for name in ALL if blocks(ALL[name], "sh")])
def test_every_command_is_one_that_the_parser_takes(page: str) -> None:
    for block in blocks(ALL[page], "sh"):
        for words in commands(block):
            if words[0] == "vr":
                parse(words[1:])
            else:
                assert words[0] in OTHERS or "=" in words[0], words
                named = [word for word in words if re.fullmatch(r"tests/[\w/.]+", word)]
                assert all((ROOT / name).exists() for name in named)


def parse(words: list[str]) -> None:
    """Let a command's own parser read the words; nothing runs."""
    command, rest, known = load(words[0]), words[1:], ("rings", "heavyball", "twirls")
    if any(word in known for word in words):
        return  # of packages that the page installs
    if hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    if "--help" not in rest and "--config" not in rest and not any(":" in word and "/" not in word for word in rest):
        command.make_context(" ".join(words), rest).close()


@pytest.mark.parametrize("page", ALL)
def test_every_option_in_the_text_exists(page: str) -> None:
    everything = "\n".join(made().values())
    for code in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", ALL[page], flags=re.S | re.M)):
        options = re.findall(r"(?<![\w-])--[a-z][\w-]*", code)
        name = code.split()[1] if code.startswith("vr ") and " " in code else ""
        settings = name in ("run", "sweep", "compare")
        text = everything if settings or name not in COMMANDS else made()[f"reference/commands/{name}.md"]
        foreign = code.split()[0] in OTHERS
        assert foreign or [one for one in options if not re.search(rf"{one}\b", text)] == [], code


@pytest.mark.parametrize("page", ALL)
def test_python_compiles(page: str) -> None:
    for block in blocks(ALL[page], "python"):
        compile(block.body, page, "exec")


def test_links_lead_somewhere() -> None:
    site = WRITTEN.keys() | made().keys()
    count = 0
    for name, text in (WRITTEN | dict(made()) | BESIDE).items():
        beside = name in BESIDE
        for target in re.findall(r"(?<!`)\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)):
            path = target.partition("#")[0]
            if "://" in path or not path:
                continue
            count += 1
            where = os.path.normpath(os.path.join("" if beside else os.path.dirname(name), path))
            there = (ROOT if beside else DOCS) / where
            assert where in site or there.exists(), (name, target)
    assert count > 50


def options_of(help: str) -> list[str]:
    return re.findall(r"^  (?:-\w, )?(--[a-z][\w-]*)", help, re.M)


def help_pages() -> Iterator[tuple[list[str], str]]:
    """Words of every command, and the page that documents it."""
    yield [], "reference/commands/index.md"
    for name in COMMANDS:
        verbs = getattr(load(name), "commands", {})
        yield from (([name, verb], f"reference/commands/{name}.md") for verb in verbs)
        if not verbs:
            yield [name], f"reference/commands/{name}.md"


def test_the_reference_has_every_command_and_option(vr: Callable[..., Any]) -> None:
    count = 0
    for words, page in help_pages():
        text = made()[page]
        title = " ".join(["vr", *words])
        assert re.search(rf"^##? {title}$", text, re.M), title
        section = re.split(rf"^##? {title}$", text, flags=re.M)[1]
        section = re.split(r"^## ", section, flags=re.M)[0]
        for option in options_of(vr(*words, "--help").out):
            assert re.search(rf"`[^`]*{option}\b", section), (words, option)
            count += 1
    assert count > 300


@pytest.mark.parametrize("optimizer", ["vradam", "sgd"])
@pytest.mark.parametrize("task", ["cnn", "gflownet"])
def test_the_reference_has_every_setting(task: str, optimizer: str, vr: Callable[..., Any]) -> None:
    pages = [made()[f"reference/{name}.md"] for name in ("commands/run", f"tasks/{task}", "training", "optimizers")]
    shown = options_of(vr("run", task, "--opt", optimizer, "--help").out)
    assert {"--epochs", "--lr", "--dataset"} <= set(shown)
    assert [one for one in shown if one not in "".join(pages) and not re.fullmatch(r"--beta\d", one)] == []


def test_the_references_index_names_every_task_and_environment_variable() -> None:
    from vrcli.tasks.registry import own

    text = WRITTEN["reference/index.md"]
    assert re.findall(r"\[\w+\]\(tasks/(\w+)\.md\)", text) == sorted(own())
    shown = {name for words, _ in help_pages() for name in re.findall(r"env var: (\w+)", page_of(words))}
    assert shown == {"VR_DB", "VR_CHECKPOINTS"}
    assert [name for name in shown if f"| `{name}` |" not in text] == []


def page_of(words: Sequence[str]) -> str:
    command: Any = load(words[0]) if words else None
    for verb in words[1:]:
        command = command.commands[verb]
    return command.get_help(typer.Context(command)) if command else ""


def test_what_the_statistics_page_states_is_what_simulations_give() -> None:
    from simulated import draw, false_verdicts, power

    text = WRITTEN["explanation/statistics.md"]
    noises: dict[str, dict[str, Any]] = {
        "normal noise": {},
        "heavy tails": {"heavy": True},
        "one run in ten": {"diverging": 0.1},
    }
    sizes = ((5, 3), (3, 3), (10, 1))
    for label, noise in noises.items():
        stated = [
            float(x)
            for x in re.findall(r"([\d.]+)%", next(line for line in text.splitlines() if line.startswith(f"| {label}")))
        ]
        count = 2000 if "diverging" in noise else 8000
        assert stated == [round(100 * false_verdicts(draw(count, 2, k, m, seed=1, **noise)), 1) for k, m in sizes]
    rates = [round(100 * false_verdicts(draw(8000, 4, k, m, seed=1)), 1) for k, m in sizes]
    assert "{}%, {}% and {}% under normal noise".format(*rates) in " ".join(text.split())
    pooled = [(5, 3, 0.4, 3, 15), (5, 3, 1.0, 3, 15), (1, 10, 0.4, 4, 10), (1, 50, 0.4, 4, 50)]
    for k, m, tau, seed, runs in pooled:
        found = false_verdicts(draw(8000, 2, k, m, tau=tau, seed=seed).reshape(8000, 2, runs, 1))
        assert f"| {100 * found:.2g}% |" in text
    found = [f"{100 * power(draw(8000, 2, k, m, effect=1.5, seed=5)):.0f}%" for k, m in sizes]
    assert "5 x 3 finds it in {} of comparisons, 3 x 3 in {} and 10 x 1 in {}".format(*found) in " ".join(text.split())
    found = [f"{100 * power(draw(2000, 2, k, 3, effect=1.5, diverging=0.1, seed=9)):.0f}%" for k in (5, 6, 8)]
    assert "5 searches x 3 seeds find it in {}, 6 in {} and 8 in {}".format(*found) in " ".join(text.split())


def test_only_these_marks_stand_before_blocks() -> None:
    marks = {block.mark for text in ALL.values() for block in blocks(text)}
    assert marks <= {"", "checked", "slow", "recipe", "try", "tests"}
    fences = sum(len(re.findall(r"^```\w", text, re.M)) for text in ALL.values())
    assert fences == sum(len(blocks(text)) for text in ALL.values())
