"""A study's page: text, figures and the runs that it can be made again from, in one folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vrcli.output import Folder, Target
from vrcli.report.figures import base, curves, envelope
from vrcli.report.figures.counts import diverged_runs
from vrcli.report.figures.panels import listed, read, units_of
from vrcli.report.figures.stability import Stability
from vrcli.report.figures.style import Plot, Series
from vrcli.report.study.blocks import Block, Rows
from vrcli.report.study.experiment import Section, sections
from vrcli.report.tables.grid import grid
from vrcli.results.export.selection import Selection
from vrcli.results.export.sqlite import write as write_runs
from vrcli.results.filter import Filter
from vrcli.results.gates import CURVE, gates
from vrcli.results.lines import Reader
from vrcli.study.files.model import FIGURES, Figure
from vrcli.study.files.run import StudyResult

if TYPE_CHECKING:
    from vrcli.results.gates import Gate
    from vrcli.search.record import Store

PAGE, RUNS, FOLDER = "page.md", "runs.sqlite", "figures"
#: The study itself, beside a page of one that does not ship.
STUDY = "study.toml"
#: Bytes that a figure of a page takes at most, as far as one of these resolutions makes it so small.
LARGEST = 200_000
DPI = (150, 110, 80, 60)


def gates_of(store: Store, result: StudyResult) -> dict[str, list[Gate]]:
    """What the gates did in the fresh runs of every part, by the part's name, where the study wants to know."""
    if not result.study.study.gates:
        return {}
    return {
        name: gates(store, {opt: [run for own in blocks for run in own] for opt, blocks in found.blocks.items()})
        for name, found in result.found.items()
    }


def is_page(folder: Path) -> bool:
    """Whether a folder has the files of a page and no others."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return all(
        name in (PAGE, RUNS, STUDY) or (name.startswith(f"{FOLDER}/") and name.endswith(".png")) for name in names
    )


def target_of(folder: Path, force: bool) -> Folder:
    """The folder of a page."""
    return Folder(folder, force=force, kind="the page of a study", owns=is_page)


def write_page(result: StudyResult, store: Store, to: Folder) -> int:
    """Write the page; how many runs are beside it, with the curves that the page needs and no others.

    Raises:
        UsageError: the folder cannot be written, or holds something else.
    """
    records = {run.id: run for found in result.found.values() for own in found.runs.values() for run in own}
    with to.part() as part:
        (part / FOLDER).mkdir(parents=True)
        figures = [Section("Figures", list(_figures(result, store, part)))] if result.study.study.figures else []
        text = markdown(result, [*sections(result, gates_of(store, result)), *figures])
        (part / PAGE).write_text(text, encoding="utf-8")
        if not result.study.written.ships:
            (part / STUDY).write_bytes(result.study.written.path.read_bytes())
        chosen = Selection(store, [records[id] for id in sorted(records)])
        write_runs(chosen, Target(part / RUNS, force=True), _curves_of(result, store))
    return len(records)


# -- text -------------------------------------------------------------------------------------------------------------


def markdown(result: StudyResult, found: Sequence[Section]) -> str:
    """The page as Markdown."""
    written, scale = result.study.written, result.study.name
    name = written.name if written.ships else STUDY
    lines = [f"# {result.study.study.title}", ""]
    for section in found:
        lines += [f"## {section.title}", ""] if section.title else []
        lines += _paragraphs(section.blocks)
    lines += ["---", "", f"Made by `vr study report {name} --scale {scale} --db {RUNS} --output FOLDER`."]
    return "\n".join(lines) + "\n"


def _paragraphs(blocks: Sequence[Block]) -> Iterator[str]:
    """Every line a paragraph, every table between empty lines; a list stays one."""
    for at, block in enumerate(blocks):
        if isinstance(block, Rows):
            yield from grid(block.columns, _piped(block), right=block.right, style="pipe")
        elif block:
            yield str(block)
        else:
            continue
        after = blocks[at + 1] if at + 1 < len(blocks) else ""
        if not (_is_item(block) and _is_item(after)):
            yield ""


def _piped(block: Rows) -> list[dict[str, str]]:
    return [{key: str(value).replace("|", "\\|") for key, value in row.items() if value is not None}
            for row in block.rows]  # fmt: skip


def _is_item(block: Block) -> bool:
    return isinstance(block, str) and block.startswith("- ")


# -- figures ----------------------------------------------------------------------------------------------------------


def _figures(result: StudyResult, store: Store, folder: Path) -> Iterator[str]:
    """Draw every figure into the folder, and say where it is."""
    import matplotlib.pyplot as plt

    for number, figure in enumerate(result.study.study.figures, 1):
        notes: list[str] = []
        plot = drawn(result, figure, store, notes)
        title = figure.title or figure.kind
        if plot is None:
            yield f"{title}: {'; '.join(notes) or 'no runs yet'}"
            continue
        name = f"{FOLDER}/{number:02d}-{figure.kind}.png"
        for dpi in DPI:
            plot.save(folder / name, dpi)
            if (folder / name).stat().st_size <= LARGEST:
                break
        plt.close(plot.figure)
        yield f"![{title}]({name})"
        yield title + "".join(f"; {note}" for note in notes)


def drawn(result: StudyResult, figure: Figure, store: Store, notes: list[str]) -> Plot | None:
    """One figure; None where none of its runs is there.

    Args:
        notes: takes what must be said of it.
    """
    found = _lines(result, figure)
    if not found:
        return None
    reader = Reader(store, Filter())
    if figure.kind == "stability":
        runs = [run.id for run in base.runs_of(found)]
        if not store.curves.beginning(f"{Stability.probe}_", runs):
            notes.append(f"its runs were not measured by the probe {Stability.probe}")
            return None
        return Stability().of_lines(reader, *next(iter(found.items())))
    metrics = reader.metrics(base.runs_of(found), figure.curves, FIGURES[figure.kind])
    panels = read(reader, notes, found, metrics, "step")
    if panels is None:
        return None
    if figure.kind in ("curves", "trials"):
        return curves.draw(panels, diverged=diverged_runs(found))
    plain = {title: {metric: listed(panel) for metric, panel in own.items()} for title, own in panels.items()}
    return envelope.draw(plain, diverged=diverged_runs(found), units=units_of(found, panels))


def _lines(result: StudyResult, figure: Figure) -> base.Sections:
    """The runs that a figure is about, by part and optimizer."""
    found: base.Sections = {}
    # A source's name is one line of the legend, also where another of our optimizers stands for it in each part.
    series: dict[str, Series] = {}
    for name, one in result.found.items():
        if figure.parts and name not in figure.parts:
            continue
        runs = one.trials if figure.kind == "trials" else {
            opt: [run for own in blocks for run in own] for opt, blocks in one.blocks.items()
        }  # fmt: skip
        ours = one.part.ours
        lines = {
            series.setdefault(ours[opt], Series(opt, ours[opt])): own for opt, own in runs.items()
            if own and (not figure.optimizers or ours[opt] in figure.optimizers)
        }  # fmt: skip
        if lines:
            found[name] = lines
    return found


# -- runs -------------------------------------------------------------------------------------------------------------


def _curves_of(result: StudyResult, store: Store) -> dict[int, set[str]]:
    """By run the curves that the page is made from: those of figures, claims and gates."""
    kept: dict[int, set[str]] = defaultdict(set)
    reader = Reader(store, Filter())
    for figure in result.study.study.figures:
        if runs := base.runs_of(_lines(result, figure)):
            metrics = reader.metrics(runs, figure.curves, FIGURES[figure.kind])
            if figure.kind == "stability":
                panels = Stability().panels(store.curves.metrics([run.id for run in runs]))
                metrics = [name for panel in panels for name in (*panel.curves, *panel.dashed)]
            for run in runs:
                kept[run.id].update(metrics)
    study = result.study.study
    needed = {name for claim in study.claims for name in (claim.curve, claim.of)} | ({CURVE} if study.gates else set())
    for found in result.found.values():
        for run in (run for blocks in found.blocks.values() for own in blocks for run in own):
            kept[run.id] |= needed
    return kept
