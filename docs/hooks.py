"""Pages of the site that are made from the code: the reference, and the two documents that stand beside the README.

mkdocs calls `on_config` and `on_files`; `pages` needs no mkdocs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from vrcli.cli.app import app
from vrcli.cli.lazy import COMMANDS, load
from vrcli.cli.tasks import preset_rows
from vrcli.engine.probes import registry as probes
from vrcli.errors import UsageError
from vrcli.optim import registry as optimizers
from vrcli.optim.rows import CAPABILITIES, Row
from vrcli.optim.zoo import INSTALL
from vrcli.report.wording import setting as written
from vrcli.spec import REPLAYED, Training
from vrcli.tasks import registry as tasks
from vrcli.tasks.space import Space

ROOT = Path(__file__).parents[1]
#: Documents for people who look at the files, and where the site has them.
BESIDE = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
#: Pages of the Python API: title, what stands above, and the objects with the names to show of each.
API: Mapping[str, tuple[str, str, Mapping[str, Sequence[str]]]] = {
    "functions": (
        "vrcli",
        "The commands as functions, with the same words, defaults and refusals.",
        {
            "vrcli.api": ("run", "sweep", "compare", "plan", "load"),
            "vrcli.studies": ("study", "plan_study", "read_study"),
        },
    ),
    "outcomes": ("Outcomes", "What the functions give back.", {"vrcli.outcomes": (), "vrcli.plan_outcomes": ()}),
    "frames": (
        "Frames",
        "A database as pandas frames: what `vrcli.load` opens.",
        {"vrcli.results.frames": ("Frames",)},
    ),
    "events": (
        "Events",
        "What `watch` gets while something runs.",
        {"vrcli.study.events": (), "vrcli.engine.events": ()},
    ),
    "tasks": (
        "Tasks",
        "What a task of your own is made of.",
        {"vrcli.tasks.base": (), "vrcli.tasks.splits": (), "vrcli.tasks.space": ("Real", "Integer", "Categorical")},
    ),
    "optim": (
        "vrcli.optim",
        "Optimizers for any PyTorch project. `from vrcli.optim import VRAdam` imports nothing but torch.",
        {
            f"vrcli.optim.{module}": (name,)
            for module, name in (
                ("vradam", "VRAdam"),
                ("vrmomentum", "VRMomentum"),
                ("flowadam", "FlowAdam"),
                ("lamb", "Lamb"),
                ("muon", "Muon"),
                ("rad", "RAD"),
            )
        },
    ),
    "errors": ("Errors", "What the functions raise.", {"vrcli.errors": ()}),
}


def on_config(config: Any) -> Any:
    """Give the reference and the results their pages in the navigation."""
    reference = next(part["Reference"] for part in config.nav if "Reference" in part)
    reference += [
        {
            "Commands": [
                "reference/commands/index.md",
                *({f"vr {name}": f"reference/commands/{name}.md"} for name in COMMANDS),
            ]
        },
        {"Tasks": ["reference/training.md", *({name: f"reference/tasks/{name}.md"} for name in _own_tasks())]},
        "reference/optimizers.md",
        "reference/probes.md",
        {"Python API": [{API[name][0]: f"reference/api/{name}.md"} for name in API]},
    ]
    results = next(part["Results"] for part in config.nav if "Results" in part)
    results += [{_title(page): page.relative_to(ROOT / "docs").as_posix()} for page in studies()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def pages() -> dict[str, str]:
    """Every page that is made here, by its path in the site."""
    found = {path: (ROOT / name).read_text().replace("](docs/", "](") for path, name in BESIDE.items()}
    found["contributing.md"] = found["contributing.md"].replace("(CHANGELOG.md)", "(changelog.md)")
    found["reference/commands/index.md"] = _lines(_root_page())
    for name in COMMANDS:
        found[f"reference/commands/{name}.md"] = _lines(_command_page(name))
    for name in _own_tasks():
        found[f"reference/tasks/{name}.md"] = _lines(_task_page(name))
    found["reference/training.md"] = _lines(_training_page())
    found["reference/optimizers.md"] = _lines(_optimizers_page())
    found["reference/probes.md"] = _lines(_probes_page())
    for name in API:
        found[f"reference/api/{name}.md"] = _lines(_api_page(name))
    found["results/index.md"] = _lines(_results_page())
    return found


def studies() -> list[Path]:
    """The pages of the studies whose results are kept, as `vr study report --output` wrote them."""
    return sorted((ROOT / "docs" / "results").glob("*/page.md"))


def _title(page: Path) -> str:
    return page.read_text().splitlines()[0].removeprefix("# ")


def _results_page() -> Iterator[str]:
    """What every kept study says of its source's claims."""
    yield "# Results"
    yield ""
    yield "What the studies that ship with vr found. Each page is made by `vr study report` from the runs beside it,"
    yield "and can be made again from them; the verdicts are those of `vr compare`."
    yield "[VRAdam's claims](vradam.md) and [FlowAdam's](flowadam.md) are told in words, too."
    for page in studies():
        text = page.read_text()
        scale = next((line for line in text.splitlines() if line.startswith("scale ")), "")
        claims = re.search(r"^## Claims\n\n((?:\|.*\n)+)", text, re.MULTILINE)
        yield from ["", f"## [{_title(page)}]({page.parent.name}/page.md)", "", scale.capitalize() + "."]
        if claims:
            yield from ["", *claims[1].splitlines()]


def _lines(found: Iterable[str]) -> str:
    return "\n".join(found) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    rows = list(rows)
    if rows:
        yield from ("", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads))
        yield from ("| " + " | ".join(cell.replace("|", "\\|") or " " for cell in row) + " |" for row in rows)
        yield ""


def _sentence(text: str) -> str:
    return text if text.endswith(("?", ".")) or not text else f"{text}."


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


# -- commands ----------------------------------------------------------------------------------------------------------


def _root_page() -> Iterator[str]:
    root = typer.main.get_command(app)
    yield from ("# vr", "", _prose(root.help or ""), "")
    yield from _table(["command", "what it does"], ([f"[vr {name}]({name}.md)", COMMANDS[name]] for name in COMMANDS))
    yield from _parameters(typer.Context(root, info_name="vr"), root)


def _command_page(name: str) -> Iterator[str]:
    command = load(name)
    yield from (f"# vr {name}", "")
    if not hasattr(command, "commands"):
        yield from _command(f"vr {name}", command)
        return
    yield from (_prose(command.help), "")
    for verb, one in command.commands.items():
        yield from (f"## vr {name} {verb}", "")
        yield from _command(f"vr {name} {verb}", one)


def _command(words: str, command: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=words, help_option_names=["-h", "--help"])
    yield from (_prose(command.help or ""), "", "```text")
    yield from (" ".join(command.get_usage(context).removeprefix("Usage:").split()), "```")
    if words in ("vr run", "vr sweep", "vr compare"):
        of_optimizer = " and of the [optimizer](../optimizers.md)" if words == "vr run" else ""
        yield from (
            "",
            f"Every setting of the [task](../tasks/cnn.md){of_optimizer} is an option, too, and so is every",
        )
        yield "setting of [the training](../training.md)."
    yield from _parameters(context, command)


def _parameters(context: Any, command: Any) -> Iterator[str]:
    for kind in ("argument", "option"):
        records = [p.get_help_record(context) for p in command.get_params(context) if p.param_type_name == kind]
        yield from _table([kind, "meaning"], ([_code(one[0]), _escaped(one[1])] for one in records if one))


def _prose(text: str) -> str:
    """Help for a terminal as markdown: what keeps its line breaks there keeps them here."""
    parts = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        f"```text\n{part.removeprefix(chr(8)).strip(chr(10))}\n```" if part.startswith("\b") else _escaped(part)
        for part in parts
    )


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")


# -- settings ----------------------------------------------------------------------------------------------------------


def _settings(model: Any, *, leave: Iterable[str] = (), before: str = "") -> Iterator[str]:
    """A table of a model's fields: option, default, what is accepted, meaning."""
    schema = model.model_json_schema()
    rows = []
    for key, field in model.model_fields.items():
        if key not in leave:
            default = field.get_default(call_default_factory=True)
            accepted = _accepted(schema["properties"][key])
            rows.append(
                [
                    _code(f"--{before}{key.replace('_', '-')}"),
                    _code(written(default)),
                    accepted,
                    _escaped(field.description or ""),
                ]
            )
    yield from _table(["option", "default", "accepted", "meaning"], rows)


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_KINDS = {"number": "number", "integer": "integer", "boolean": "true or false", "string": "text", "null": "nothing"}


def _accepted(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_accepted(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(_code(str(one)) for one in schema["enum"])
    if "const" in schema:
        return _code(str(schema["const"]))
    if schema.get("type") == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})]
        return (
            f"{len(items)} of: {_accepted(items[0])}" if "prefixItems" in schema else f"several: {_accepted(items[0])}"
        )
    bounds = [f"{sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([_KINDS.get(schema.get("type", ""), "text"), ", ".join(bounds)]).strip()


def _spaces(spaces: Mapping[str, Space]) -> Iterator[str]:
    rows = [
        [_code(name) if name != "*" else "all others", _code(setting), str(axis), axis.origin]
        for name, space in spaces.items()
        for setting, axis in space.items()
    ]
    yield from _table(["optimizer", "setting", "searched", "where from"], rows)


# -- tasks, training, optimizers ---------------------------------------------------------------------------------------


def _own_tasks() -> list[str]:
    return [row.name for row in tasks.catalogue() if row.origin == "vr"]


def _task_page(name: str) -> Iterator[str]:
    task = tasks.load(name)
    yield from (f"# {name}", "", _sentence(task.summary), "")
    about = re.findall(r"^(\w+): +(.*?)(?=^\w+: |\Z)", inspect.getmodule(task).__doc__ or "", re.S | re.M)
    yield from (f"- **{head}:** {_escaped(text)}" for head, text in about if head != name)
    yield from ("", "## Metrics", "")
    yield "The first is the objective: its validation value selects weights and guides searches."
    directions = {"min": "smaller is better", "max": "larger is better"}
    yield from _table(
        ["metric", "direction", "unit"], ([_code(m.name), directions[m.direction], m.unit] for m in task.metrics)
    )
    yield from ("## Settings", "", "The [settings of the training](../training.md) come on top.")
    yield from _settings(task.Config)
    yield from ("## Presets", "")
    for preset, chosen in task.presets.items():
        yield from (f"### {preset}", "", _sentence(chosen.summary))
        rows = [row for row in preset_rows(task, preset, None) if row["where from"] != "default"]
        cells = ([_code(row["setting"]), _code(row["value"]), _escaped(row["where from"])] for row in rows)
        yield from _table(["setting", "value", "where from"], cells)
    yield from ("## Search spaces", "")
    yield from _spaces(task.space)


def _training_page() -> Iterator[str]:
    yield from (
        "# Training",
        "",
        "The training loop is the same for every task. A preset states its settings; each is an",
    )
    yield from ("option of `vr run`, `vr sweep` and `vr compare`.", "")
    yield from _settings(Training, leave=REPLAYED)


def _optimizers_page() -> Iterator[str]:
    rows = optimizers.catalogue()
    yield from (
        "# Optimizers",
        "",
        "Each setting is an option of `vr run TASK --opt NAME`. A class of your own needs no",
    )
    yield from ("entry here: [use your own optimizer](../how-to/own-optimizer.md).", "", "## Capabilities", "")
    yield from _table(["word", "meaning"], ([_code(word), text] for word, text in CAPABILITIES.items()))
    for origin, title in (("vr", "Of vr"), ("torch", "Of torch")):
        yield from (f"## {title}", "")
        for row in rows:
            if row.origin == origin:
                yield from _optimizer(row)
    rest = [row for row in rows if row.origin == "pytorch-optimizer"]
    yield from (
        "## Of pytorch-optimizer",
        "",
        f"They come with the extra `zoo`: `{INSTALL}`. `vr opts show NAME` has their settings.",
    )
    cells = ([_code(r.name), r.summary or f"cannot run: {r.refusal}", " ".join(sorted(r.capabilities))] for r in rest)
    yield from _table(["optimizer", "what it is", "capabilities"], cells)


def _optimizer(row: Row) -> Iterator[str]:
    yield from (f"### {row.name}", "", f"`{row.target.replace(':', '.')}`: {row.summary}.", "")
    if row.refusal:
        yield from (f"It cannot run: {row.refusal}.", "")
        return
    if row.capabilities:
        yield from ("Capabilities: " + ", ".join(map(_code, sorted(row.capabilities))) + ".", "")
    if row.note:
        yield from (f"{row.note}.", "")
    try:
        yield from _settings(optimizers.settings_model(row.name))
    except UsageError as error:
        yield from (str(error), "")
    yield from ("Searched unless the task says otherwise:", "")
    rows = [[_code(name), str(axis), axis.origin] for name, axis in row.space.items()]
    yield from _table(["setting", "searched", "where from"], rows)


# -- probes ------------------------------------------------------------------------------------------------------------


def _probes_page() -> Iterator[str]:
    yield from ("# Probes", "", "Each option is one of `vr run TASK --probe NAME`.")
    yield from ("[What they measure](../explanation/probes.md) tells more.", "")
    for name, (_, origin) in probes.catalogue().items():
        if origin == "vr":
            probe = probes.load(name)
            yield from (f"## {name}", "", _sentence(probe.summary[:1].upper() + probe.summary[1:]), "")
            yield from (_escaped(" ".join((probe.__doc__ or "").split())), "")
            yield from _settings(probe.Options, before=f"probe-{name}-")


# -- the Python API ----------------------------------------------------------------------------------------------------


def _api_page(name: str) -> Iterator[str]:
    title, about, objects = API[name]
    yield from (f"# {title}", "", about, "")
    for module, members in objects.items():
        if members:
            for member in members:
                yield from (f"::: {module}.{member}", "")
        else:
            yield from (f"::: {module}", "    options:", "      show_root_heading: false", "")
