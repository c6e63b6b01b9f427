"""Study files: every fault is one line with its place and the nearest name, and a scale reduces what it says."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from vrcli.db.location import Location
from vrcli.errors import UsageError
from vrcli.execute.place import Place
from vrcli.study.files import model
from vrcli.study.files.check import faults_of, in_words, sound
from vrcli.study.files.read import Faulty, find, load, shipped
from vrcli.study.files.run import missing_data
from vrcli.study.files.scaled import scaled

WHOLE = Path(__file__).with_name("whole.toml")
TEXT = WHOLE.read_text()
#: Every key of the file at the beginning of its line.
KEYS = [(number, found[1]) for number, line in enumerate(TEXT.splitlines(), 1) if (found := re.match(r"(\w+) =", line))]
#: Names inside values and tables, of which something else must know: what is written, what it becomes, what is said.
NAMES = [
    ('primary = ["New"', 'primary = ["Nwe"', "primary: the study has no optimizer Nwe; did you mean New?"),
    ("valley:Valley", "valley:Vally", "parts.one: "),
    ('preset = "quick"\noptimizers = {', 'preset = "quikc"\noptimizers = {', "preset quikc is not a preset"),
    ('New = "vradam"', 'New = "vradm"', "parts.one: no optimizer is called 'vradm'; did you mean vradam?"),
    ('search = "random"', 'search = "randm"', "search"),
    ("settings = { width = 3 }", "settings = { widht = 3 }", "widht is not a setting"),
    ("settings = { width = 3 }", "settings = { width = 0 }", "width must be >= 1, got 0"),
    ("fix = { Old", "fix = { Olld", "parts.one.fix: the part has no optimizer Olld; did you mean Old?"),
    ("Old = { weight_decay", "Old = { weigt_decay", "did you mean weight_decay?"),
    ("space = { New", "space = { Nwe", "parts.one.space: the part has no optimizer Nwe; did you mean New?"),
    ('lr = "log:1e-4:1e-1"', 'lr = "log:1e-4"', "parts.one: space lr=log:1e-4: 'log' is not a number"),
    ('metric = "best_val_loss"', 'metric = "best_val_los"', "metric best_val_los is not a result of valley"),
    ('until = "steps:20"', 'until = "stpes:20"', "until"),
    ('skip = ["two"]', 'skip = ["tow"]', "scales.small.skip: the study has no part tow; did you mean two?"),
    ('["New", "Old"]\nsettings', '["New", "Odl"]\nsettings', "scales.small.optimizers: the study has no optimizer Odl"),
    ("probes = { updates", "probes = { updats", "parts.one: probe updats is not a probe; did you mean updates?"),
    ("layers = false", "layrs = false", "parts.one: probe_updates_layrs is no option of updates; did you mean"),
    ('probe_every = "2e"', 'probe_every = "0"', "parts.one: probe_every must be steps (50) or epochs (2e) above 0"),
    ('within = ["New"]', 'within = ["Nwe"]', "claims[5].within: the study has no optimizer Nwe"),
    ('never_above = ["New"]', 'never_above = ["Nwe"]', "claims[6].never_above: the study has no optimizer Nwe"),
    ('curve = "updates_norm"', 'curve = "update_norm"', "claims[5].curve: update_norm is not a curve"),
    ('curve = "updates_norm"', 'curve = "updates_nrm"', "claims[5].curve: updates_nrm is not a curve"),
    ('curve = "updates_norm"', 'curve = "updates_norm/0"', "claims[5].curve: updates_norm/0 is not a curve"),
    ("range = [0.0, 1.0]", "range = [1.0, 0.0]", "within needs a range, [low, high] with low < high, got [1.0, 0.0]"),
    ("[scales.small]", "[scales.full]", "scales: full is the study as it is written; give the scale another name"),
    ("[scales.small]", '[scales.""]', "scales: a name begins with a letter or a digit, and has no | and no line"),
    ("[parts.two]", '[parts."a|b"]', "parts: a name begins with a letter or a digit, and has no | and no line"),
    ('optimizers = ["vradam", "sgd"]', 'optimizers = { _x = "vradam", y = "sgd" }', "a name begins with a letter or a"),
    ("[scales.other.parts.one]", "[scales.other.parts.oen]", "scales.other.parts: the study has no part oen"),
    ('[[values]]\noptimizer = "New"', '[[values]]\noptimizer = "Nwe"', "values[1].optimizer: the study has no"),
    ('metric = "test_loss"\nvalue', 'metric = "test_lss"\nvalue', "values[1].metric: test_lss is not a result"),
    ('less = ["New", "Old"]', 'less = ["New", "Odl"]', "claims[1].less: the study has no optimizer Odl"),
    ('less = ["New", "Old"]', 'less = ["New", "New"]', "claims[1].less: give two different optimizers"),
    ('parts = ["one"]\nwhere', 'parts = ["oen"]\nwhere', "claims[1].parts: the study has no part oen"),
    ('margin = "5%"', 'margin = "5 per cent"', "claims[3].margin: must be a number or a percentage"),
    ('margin = "5%"', 'margin = "1.2.3%"', "claims[3].margin: must be a number or a percentage"),
    ('margin = "5%"', "margin = -0.1", "claims[3].margin: must be > 0 and finite, got -0.1"),
    ('margin = "5%"', 'margin = "0%"', "claims[3].margin: must be > 0 and finite, got 0%"),
    ('curve = "val_loss"', 'curve = "val_lss"', "claims[4].curve: val_lss is not a curve"),
    ('metrics = ["test_loss"]', 'metrics = ["tst_loss"]', "tables[1].metrics: tst_loss is not a result"),
    ('curves = ["val_loss"]', 'curves = ["val_lss"]', "figures[1].curves: val_lss is not a curve"),
    ('kind = "envelope"', 'kind = "envelop"', "figures[1].kind: must be envelope"),
]  # fmt: skip


DATA = """
title = "data"
[parts.one]
task = "cnn"
preset = "paper"
optimizers = ["adam", "sgd"]
epochs = 100
settings = { dataset = "mnist" }
[scales.other]
settings = { dataset = "digits" }
[scales.short]
epochs = 10
settings = { "warmup-epochs" = 3.0 }
"""


@pytest.fixture
def checked(valley: None, tmp_path: Path):
    """The faults of a text."""

    def check(text: str) -> tuple[str, ...]:
        path = tmp_path / "study.toml"
        path.write_text(text)
        return faults_of(str(path))

    return check


def test_the_file_with_every_key_has_no_fault(checked) -> None:
    assert checked(TEXT) == ()


def test_the_file_has_every_key() -> None:
    models = [one for one in vars(model).values() if isinstance(one, type) and issubclass(one, model.Model)]
    fields = {name for one in models for name in one.model_fields}
    assert {name for _, name in KEYS} >= fields - {"parts", "scales", "values", "claims", "tables", "figures", "data"}


def test_the_template_names_every_key() -> None:
    text = (files("vrcli.cli.scaffold") / "study_template.toml").read_text()
    models = [one for one in vars(model).values() if isinstance(one, type) and issubclass(one, model.Model)]
    fields = {name for one in models for name in one.model_fields}
    assert {name for name in fields if not re.search(rf"\b{name}\b", text)} == set()


@pytest.mark.parametrize(("number", "key"), KEYS, ids=[f"{number}-{key}" for number, key in KEYS])
def test_a_typo_in_a_key_is_refused_with_the_nearest_name_and_its_place(checked, number: int, key: str) -> None:
    lines = TEXT.splitlines()
    lines[number - 1] = lines[number - 1].replace(key, f"{key[0]}_{key[1:]}", 1)
    faults = [line for line in checked("\n".join(lines)) if "is not a key here" in line]
    assert len(faults) == 1
    assert faults[0].startswith(f"line {number}, ")
    assert f"{key[0]}_{key[1:]}: is not a key here; did you mean {key}?" in faults[0]


@pytest.mark.parametrize("table", ["parts", "scales", "values", "claims", "tables", "figures", "data"])
def test_a_typo_in_a_table_is_refused_with_the_nearest_name(checked, table: str) -> None:
    wrong = f"{table[0]}_{table[1:]}"
    faults = checked(re.sub(rf"^(\[\[?){table}\b", rf"\g<1>{wrong}", TEXT, flags=re.M))
    assert any(f"{wrong}: is not a key here; did you mean {table}?" in line for line in faults)


@pytest.mark.parametrize(("old", "new", "said"), NAMES, ids=[new.splitlines()[0] for _, new, _ in NAMES])
def test_a_name_that_stands_for_nothing_is_refused(checked, old: str, new: str, said: str) -> None:
    assert TEXT.count(old) >= 1
    faults = checked(TEXT.replace(old, new, 1))
    assert faults
    assert any(said in line for line in faults), faults
    assert all("\n" not in line for line in faults)


def test_all_faults_are_told_in_the_order_of_the_file(checked) -> None:
    faults = checked(TEXT.replace("seeds = 2\nmetric", "sedes = 2\nmetric", 1).replace("after = 0.1", "after = 2"))
    assert [re.match(r"line (\d+)", line) is not None for line in faults] == [True, True]
    assert "sedes" in faults[0]
    assert "claims[4].after: must be < 1, got 2" in faults[1]


def test_a_source_value_without_a_metric_is_refused(checked) -> None:
    (fault,) = checked(TEXT.replace('metric = "test_loss"\nvalue', "value", 1))
    assert fault.endswith("values[1].metric: is missing")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'less = ["New", "Old"]\n',
            "",
            "a claim is one of less, more, equivalent, below, within, never_above, rate; got none",
        ),
        ('less = ["New"', 'more = ["New", "Old"]\nless = ["New"', "got less and more"),
        ('margin = "5%"\n', "", "give a margin with equivalent, and only there"),
        ('curve = "val_loss"\n', "", "below needs a curve"),
        ('"New", "Old"]\nmetric = "test_loss"\nparts', '"New"]\nmetric = "test_loss"\nparts', "must have at least 2"),
        ('parts = ["one"]\nwhere', 'parts = ["one"]\ncurve = "val_loss"\nwhere', "claims[1]: less takes no curve"),
        ('metric = "test_loss"\nmargin', 'metric = "test_loss"\nafter = 0.5\nmargin', "equivalent takes no after"),
        ('curve = "val_loss"\nafter', 'curve = "val_loss"\nmetric = "test_loss"\nafter', "below takes no metric"),
        ('curve = "val_loss"\nafter', 'curve = "val_loss"\nmargin = 0.1\nafter', "give a margin with equivalent"),
        ('"updates_norm"\nof = "updates_weight_norm"\nparts', '"updates_norm"\nparts', "never_above needs an of, the"),
        ("power = -0.5\n", "", "rate needs a power, and two parts or more"),
        ('parts = ["one", "two"]', 'parts = ["one"]', "rate needs a power, and two parts or more"),
        ("power = -0.5", "power = 0.5", "claims[7].power: must be < 0, got 0.5"),
        ("logs = 1.0\n", 'logs = 1.0\nof = "val_loss"\n', "rate takes no of; leave it out"),
        ("epochs = 4", 'epochs = 4\nuntil = "steps:3"', "epochs and until are two ends of one run"),
    ],
)
def test_a_claim_or_a_part_that_makes_no_sense_is_refused(checked, old: str, new: str, said: str) -> None:
    assert old in TEXT
    assert any(said in line for line in checked(TEXT.replace(old, new, 1)))


def test_a_scale_whose_names_stand_for_nothing_is_not_asked_for_more(checked) -> None:
    (fault,) = checked(TEXT.replace('["New", "Old"]\nsettings', '["New", "Odl"]\nsettings', 1))
    assert "scales.small.optimizers" in fault


def test_a_part_of_which_a_scale_leaves_one_optimizer_is_told_so(checked) -> None:
    other = '[scales.other]\noptimizers = ["New", "Old"]\n[scales.other.parts.one]'
    (fault,) = checked(TEXT.replace("[scales.other.parts.one]", other, 1))
    assert "scales.other.parts.two: of its optimizers none runs at scale other; skip the part there" in fault


def test_only_the_option_of_a_refusal_becomes_a_key_of_the_file() -> None:
    error = UsageError("must be given twice: vr compare cnn --opt vradam --opt adamw", "--opt")
    assert str(error) == "--opt must be given twice: vr compare cnn --opt vradam --opt adamw"
    assert in_words(error) == "opt must be given twice: vr compare cnn --opt vradam --opt adamw"


@pytest.mark.parametrize(
    ("optimizer", "curve"), [("flowadam", "flow_triggers"), ("rad", "zeta"), ("vrmomentum", "gate")]
)
def test_the_curves_of_an_optimizer_can_be_named_where_it_runs_and_only_there(checked, optimizer, curve) -> None:
    drawn = TEXT.replace('curves = ["val_loss"]', f'curves = ["{curve}"]').replace('New = "vradam"', 'New = "adamw"')
    (fault,) = checked(drawn)
    assert f"figures[1].curves: {curve} is not a curve" in fault
    of_third = drawn.replace("curves = [", 'optimizers = ["Third"]\ncurves = [').replace(
        '\noptimizers = ["New"]\n', "\n"
    )
    assert f"figures[1].curves: {curve} is not a curve" in checked(of_third)[0]
    runs = of_third.replace('Third = "sgd"', f'Third = "{optimizer}"')
    assert checked(runs) == ()
    (fault,) = checked(runs.replace('optimizers = ["Third"]', 'optimizers = ["Old"]'))
    assert f"figures[1].curves: {curve} is not a curve" in fault


def test_a_claim_of_an_optimizer_is_about_curves_of_its_own(checked) -> None:
    """Others of the part record it, which no verdict can rest on."""
    claim = 'within = ["New"]\ncurve = "updates_norm"\nof = "updates_weight_norm"'
    own = claim.replace("updates_norm", "gate")
    assert checked(TEXT.replace(claim, own)) == ()
    (fault,) = checked(TEXT.replace(claim, own.replace("New", "Third")))
    assert "claims[5].curve: gate is not a curve of these runs; there are " in fault


def test_a_file_that_is_no_toml_is_refused_with_the_line(checked) -> None:
    (fault,) = checked("title = \n")
    assert fault.startswith("it is not TOML: ")
    assert "line 1" in fault


@pytest.mark.parametrize("text", ["title = " + "[" * 5000 + "]" * 5000, "title = " + "9" * 5000], ids=["deep", "long"])
def test_a_file_that_python_cannot_read_is_refused(checked, text: str) -> None:
    (fault,) = checked(text)
    assert fault.startswith("it is not TOML: ")


def test_a_name_that_no_study_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no study vradam/tabel1; did you mean vradam/table1\?"):
        find("vradam/tabel1")


def test_the_first_fault_of_many_is_the_refusal(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text("tilte = 3\n")
    with pytest.raises(Faulty, match=r"two\.toml, .*title.*2 more: vr study check"):
        load(path)


# -- scales -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def whole(valley: None):
    return sound(find(str(WHOLE)))


def test_a_scale_that_does_not_exist_is_refused_with_the_nearest(whole) -> None:
    with pytest.raises(UsageError, match=r"--scale smal is not a scale of .*whole; did you mean small\?"):
        scaled(whole, "smal")


def test_a_part_that_does_not_exist_or_does_not_run_is_refused(whole) -> None:
    with pytest.raises(UsageError, match=r"--only tow is not part of .*; did you mean two\?"):
        scaled(whole, "full", only=["tow"])
    with pytest.raises(UsageError, match="--only two: it does not run at scale small"):
        scaled(whole, "small", only=["two"])


def test_a_data_set_that_no_part_uses_is_refused(whole) -> None:
    with pytest.raises(UsageError, match="--dataset cifar10: no part uses a data set of that name"):
        scaled(whole, "full", datasets={"cifar10": "folder"})


def test_a_scale_changes_what_it_names_and_says_so(whole) -> None:
    full, small = scaled(whole, "full"), scaled(whole, "small")
    assert full.is_full
    assert [one.name for one in full.parts] == ["one", "two"]
    (part,) = small.parts
    assert list(part.names) == ["New", "Old"]
    assert part.request.tuning.trials == 0
    assert part.request.tuning.flags == {"width": 2, "epochs": 2}
    assert part.request.seeds == 2
    assert not small.is_full
    assert part.changed == ["width 2, not 3", "epochs 2, not 4", "no search, not 2 of 2 trials", "without Third"]


def test_a_scale_with_other_data_is_a_reduction_and_data_from_elsewhere_are_none(valley: None, tmp_path: Path) -> None:
    path = tmp_path / "data.toml"
    path.write_text(DATA)
    study = sound(find(str(path)))
    other = scaled(study, "other")
    assert not other.is_full
    assert other.parts[0].changed == ["dataset digits, not mnist"]
    assert scaled(study, "full", datasets={"mnist": "folder"}).is_full
    (same,) = scaled(study, "other", datasets={"digits": "folder"}).parts
    assert same.changed == ["dataset digits, not mnist"]
    (short,) = scaled(study, "short").parts
    assert short.request.tuning.flags["warmup_epochs"] == 3.0


def test_a_figure_of_stability_is_of_one_part_that_measures_it(checked) -> None:
    drawn = TEXT.replace('kind = "envelope"', 'kind = "stability"').replace('curves = ["val_loss"]\noptim', "optim")
    assert "figures[1].kind: a figure of stability needs a part with the probe sharpness" in checked(drawn)[0]
    assert checked(drawn.replace("probes = {", "probes = { sharpness = {},")) == ()
    probed = "[scales.probed.parts.one]\nprobes = { sharpness = {} }\n[scales.other.parts.one]"
    assert checked(drawn.replace("[scales.other.parts.one]", probed)) == ()
    several = drawn.rpartition('parts = ["one"]')[0]
    assert "figures[1].parts: a figure of stability is of one part, got 2" in checked(several)[0]


def test_the_warm_up_keeps_its_share_of_the_run() -> None:
    (_, part, *_) = scaled(find("vradam/table1"), "laptop").parts
    assert part.request.tuning.flags["epochs"] == 3
    assert part.request.tuning.flags["warmup_epochs"] == pytest.approx(5 * 3 / 100)


def test_a_budget_without_epochs_needs_a_warm_up(tmp_path: Path) -> None:
    text = shipped()["vradam/table2"].read_text().replace("settings = { warmup_epochs = 0.06 }", "")
    path = tmp_path / "table2.toml"
    path.write_text(text)
    faults = faults_of(str(path))
    assert faults
    assert all("until = steps:150 needs settings.warmup_epochs: preset paper warms up over 5 of" in f for f in faults)


@pytest.mark.parametrize("name", list(shipped()))
def test_every_study_that_ships_has_no_fault(name: str) -> None:
    assert faults_of(name) == ()


def test_the_searches_of_the_papers_are_declared_before_they_run() -> None:
    for name in (name for name in shipped() if name.startswith("vradam/")):
        study = find(name).study
        assert study.primary == ["VRAdam", "AdamW"] or not any(part.trials for part in study.parts.values())
        searched = [part.request for part in scaled(find(name), "laptop").parts if part.request.tuning.trials]
        assert all(one.primary == ("vradam", "adamw") for one in searched)
        assert all((one.tuning.trials, one.seeds) == (8, 3) for one in searched)
        # Seven searches each for the pair; a part with many more optimizers besides may have three.
        assert not searched or {7} <= {one.tuning.searches for one in searched} <= {3, 7}


def test_missing_data_are_told_with_their_size_and_place(tmp_path: Path) -> None:
    study = scaled(find("vradam/table1"), "laptop")
    place = Place(Location(str(tmp_path / "x.db")), tmp_path)
    said = missing_data(study, study.parts[0], place)
    assert said.startswith(f"cifar10 is not in {tmp_path}: download CIFAR-10")
    assert "(163 MB)" in said
    assert "cifar-10-batches-py" in said
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert missing_data(study, study.parts[0], place) == ""
