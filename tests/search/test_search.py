import json
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from vrcli.errors import UsageError
from vrcli.search.axes import key
from vrcli.search.search import METHODS, Exhausted, Search, scores
from vrcli.tasks.space import Categorical, Integer, Real


def points_of(space, value, method, trials, seed, initial=8):
    search = Search(space, method, seed, initial)
    points = []
    for _ in range(trials):
        points.append(search.ask())
        search.tell(points[-1], value(points[-1]))
    return points


def best(known, method, seed):
    return min(known.value(p) for p in points_of(known.space, known.value, method, known.trials, seed))


def test_the_known_functions_have_their_published_minima(functions):
    assert functions["branin"].value({"x": math.pi, "y": 2.275}) == pytest.approx(0.397887, abs=1e-5)
    optimum = {"lr": 10 ** (4 * 0.20169 - 5), "k": 3, "shade": "grey", "x4": 0.275332, "x5": 0.311652, "x6": 0.6573}
    assert functions["hartmann"].value(optimum) == pytest.approx(-3.3224, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gp", "forest"])
def test_search_beats_chance_at_equal_trials(known, method):
    searched = [best(known, method, seed) for seed in range(20)]
    drawn = [best(known, "random", seed) for seed in range(20)]
    assert mannwhitneyu(searched, drawn, alternative="less").pvalue < 0.01


@pytest.mark.slow
def test_search_beats_chance_in_a_few_seeds(known):
    searched = [best(known, "gp", seed) for seed in range(3)]
    drawn = [best(known, "random", seed) for seed in range(60)]
    assert mannwhitneyu(searched, drawn, alternative="less").pvalue < 0.05


SMALL = {"k": Integer(0, 4), "flag": Categorical((True, False)), "c": Categorical(("a", "b", "c"))}


@pytest.mark.parametrize("method", METHODS)
def test_points_never_repeat_until_the_space_is_used_up(method):
    search = Search(SMALL, method, 3, 5)
    seen = set()
    for i in range(30):
        point = search.ask()
        assert key(point) not in seen
        seen.add(key(point))
        search.tell(point, (point["k"] - 2) ** 2 + (i % 3))
    with pytest.raises(Exhausted, match="30"):
        search.ask()


def test_values_that_were_all_found_are_not_asked_again_next_to_a_fine_axis():
    space = {"k": Integer(0, 300), "j": Integer(0, 300)}
    points = points_of(space, lambda p: (p["k"] - 7) ** 2 + (p["j"] - 9) ** 2, "gp", 40, 0)
    assert len({key(p) for p in points}) == 40
    assert {"k": 7, "j": 9} in points


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_search_goes_on_with_the_same_points(mixed, method):
    trials = 14
    whole = points_of(mixed.space, mixed.value, method, trials, 5, initial=6)
    for stop in (0, 3, 6, 11):
        again = Search(dict(reversed(mixed.space.items())), method, 5, 6)
        for point in json.loads(json.dumps(whole[:stop])):  # as they come back from a database
            again.tell(point, mixed.value(point))
        for expected in whole[stop : stop + 3]:
            assert again.ask() == expected
            again.tell(expected, mixed.value(expected))


def test_asking_twice_without_telling_gives_the_same_point(mixed):
    search = Search(mixed.space, "gp", 1, 3)
    for _ in range(5):
        search.tell(point := search.ask(), mixed.value(point))
    assert search.ask() == search.ask()


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides(mixed, method):
    first = [points_of(mixed.space, mixed.value, method, 4, seed) for seed in (0, 0, 1)]
    assert first[0] == first[1] != first[2]


@pytest.mark.slow
def test_another_process_asks_for_the_same_points(mixed):
    code = """
import json
from vrcli.tasks.space import Categorical, Integer, Real
from vrcli.search.search import Search
space = {"lr": Real(1e-5, 1e-1, log=True), "k": Integer(0, 20), "c": Categorical(("x", "y", "z"))}
s, out = Search(space, "gp", 2, 4), []
for i in range(9):
    out.append(s.ask())
    s.tell(out[-1], out[-1]["k"] * out[-1]["lr"] + ord(out[-1]["c"]))
print(json.dumps(out))
"""
    outs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": h, "OMP_NUM_THREADS": t, "PATH": "/usr/bin"},
            capture_output=True,
            check=True,
        ).stdout
        for h, t in (("1", "1"), ("2", "2"))
    ]
    assert outs[0] == outs[1]


def test_pending_points_are_neither_repeated_nor_crowded(mixed):
    search = Search(mixed.space, "gp", 0, 6)
    for _ in range(12):
        search.tell(point := search.ask(), mixed.value(point))
    pending = []
    for _ in range(4):
        pending.append(search.ask(pending))
    assert len({key(p) for p in pending}) == 4
    assert pending[0] == search.ask()


@pytest.mark.parametrize(("method", "bad"), [("gp", None), ("gp", math.nan), ("gp", math.inf), ("forest", None)])
def test_divergence_is_avoided_and_does_not_blind_the_search(method, bad):
    """Half of the axis diverges; the optimum lies next to the cliff."""
    space = {"lr": Real(1e-6, 1.0, log=True), "b": Real(0, 1)}

    def value(p):
        return bad if p["lr"] > 1e-3 else (math.log10(p["lr"]) + 3.5) ** 2 + (p["b"] - 0.3) ** 2

    points = points_of(space, value, method, 30, 0)
    later = points[8:]
    assert sum(p["lr"] > 1e-3 for p in later) < 0.35 * len(later)
    assert min(value(p) for p in points if p["lr"] <= 1e-3) < 0.02


def test_huge_losses_do_not_drown_the_small_ones():
    told = scores([0.30, 0.31, 0.35, 0.40, 1e9, math.inf])
    assert told[1] - told[0] > 0.1
    assert told[4] == told[5] == told.max()
    assert np.isclose(told.mean(), 0)
    assert np.isclose(told.std(), 1)


@pytest.mark.parametrize("values", [[math.inf] * 3, [1.0] * 4, [1.0]])
def test_values_without_differences_score_the_same(values):
    assert scores(values).tolist() == [0.0] * len(values)


def test_one_survivor_scores_below_the_diverged():
    told = scores([math.inf, 2.0, math.inf])
    assert told[1] < told[0] == told[2]


@pytest.mark.parametrize("method", METHODS)
def test_a_search_where_everything_diverged_goes_on(mixed, method):
    points = points_of(mixed.space, lambda p: None, method, 20, 0)
    assert len({key(p) for p in points}) == 20


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dims", [1, 10])
def test_one_and_ten_dimensions(method, dims):
    space = {f"x{i}": Real(-1, 1) for i in range(dims)}
    points = points_of(space, lambda p: sum(x * x for x in p.values()), method, 12, 0)
    assert len({key(p) for p in points}) == 12


@pytest.mark.parametrize("method", METHODS)
def test_a_space_without_axes_is_one_point(method):
    search = Search({}, method)
    assert search.ask() == {}
    search.tell({}, 1.0)
    with pytest.raises(Exhausted):
        search.ask()


def test_one_dimension_is_found_closely():
    points = points_of({"x": Real(-10, 10)}, lambda p: (p["x"] - math.pi) ** 2, "gp", 20, 0)
    assert min(abs(p["x"] - math.pi) for p in points) < 0.01


def test_importance_names_the_axis_that_matters():
    space = {"big": Real(0, 1), "small": Real(0, 1), "choice": Categorical(("a", "b", "c"))}
    search = Search(space, "random", 0)
    for _ in range(60):
        search.tell(p := search.ask(), 3 * p["big"] + 0.05 * p["small"] + (p["choice"] == "b"))
    found = search.importance()
    assert sum(found.values()) == pytest.approx(1)
    assert found["big"] > found["choice"] > 3 * found["small"]
    assert search.importance() == found


def test_importance_of_too_little_is_empty():
    search = Search({"x": Real(0, 1)}, "random", 0)
    assert search.importance() == {}
    for _ in range(8):
        search.tell(search.ask(), 1.0)
    assert search.importance() == {}


def test_unknown_methods_and_senseless_numbers_are_refused():
    with pytest.raises(UsageError, match="gp, forest, random, sobol"):
        Search({}, "annealing")
    with pytest.raises(UsageError, match="--initial"):
        Search({}, "gp", 0, 0)


def test_nothing_of_the_search_library_is_imported_with_the_module():
    code = (
        "import sys, vrcli.search.search; print(any(m in sys.modules for m in ('skopt', 'sklearn', 'scipy', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
