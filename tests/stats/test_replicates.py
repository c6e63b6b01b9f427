"""One comparison over replicates: what is reported, on what ground, and what is refused."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))
from simulated import Array, draw

from vrcli.stats.inference import signed_rank
from vrcli.stats.replicates import Pair, Verdict, compare_replicates
from vrcli.stats.sequential import Looks


def values(optimizers: str = "abc", step: float = 2.0, searches: int = 5, seed: int = 0) -> dict[str, Array]:
    """Each optimizer worse than the one before."""
    found = draw(1, len(optimizers), searches, 3, seed=seed)[0]
    return {name: table + place * step for place, (name, table) in enumerate(zip(optimizers, found, strict=True))}


def only(tables: dict[str, Array], **options: object) -> Pair:
    (found,) = compare_replicates(tables, metric="test_loss", **options).pairs  # type: ignore[arg-type]
    return found


def test_a_pair_is_a_t_test_of_the_replicates() -> None:
    tables = values("ab")
    found = only(tables)
    d = tables["a"].mean(axis=1) - tables["b"].mean(axis=1)
    reference = stats.ttest_1samp(d, 0)
    assert found.d == pytest.approx(d)
    assert found.difference == pytest.approx(d.mean())
    assert found.p == pytest.approx(reference.pvalue)
    assert found.p == found.p_looks == found.p_holm
    assert found.interval == pytest.approx(tuple(reference.confidence_interval()))
    assert found.interval == found.simultaneous
    assert (found.wins, found.losses) == ((d < 0).sum(), (d > 0).sum())
    assert found.sd == pytest.approx(d.std(ddof=1))
    assert (found.verdict, found.better) == (Verdict.BETTER, "a")
    assert found.power(found.detectable) == pytest.approx(0.8)
    assert found.needed == found.searches_needed(found.difference)
    assert found.power(found.difference, found.needed) >= 0.8


@pytest.mark.parametrize("looks", [None, Looks((3, 5))])
def test_searches_and_seeds_that_change_nothing_decide_nothing(looks: Looks | None) -> None:
    found = only({"a": np.full((5, 3), 0.2), "b": np.full((5, 3), 0.3)}, margin=1.0, looks=looks)
    assert found.verdict == Verdict.UNDECIDED
    assert (math.isnan(found.p), found.needed) == (True, None)
    same = only({"a": np.full((5, 3), 0.2), "b": np.full((5, 3), 0.2)}, margin=1.0)
    assert same.verdict == Verdict.EQUAL


def test_each_optimizer_is_summarised_over_its_searches() -> None:
    tables = values("ab")
    one = compare_replicates(tables, metric="test_loss").optimizers[0]
    y = tables["a"].mean(axis=1)
    assert one.y == pytest.approx(y)
    reference = stats.ttest_1samp(y, 0).confidence_interval()
    assert (one.mean, one.low, one.high) == pytest.approx((y.mean(), *reference))
    assert (one.searches, one.seeds, one.centre, one.diverged_share, one.diverged_replicates) == (5, 3, "mean", 0, 0)
    assert one.luck.tau**2 == pytest.approx(max(0, y.var(ddof=1) - one.luck.sigma**2 / 3))


def test_larger_is_better_turns_the_verdict_not_the_numbers() -> None:
    tables = values("ab")
    low, high = only(tables), only(tables, direction="max")
    assert low.difference == pytest.approx(high.difference)
    assert low.interval == pytest.approx(high.interval)
    assert (low.verdict, high.verdict) == (Verdict.BETTER, Verdict.WORSE)
    assert (low.wins, low.losses) == (high.losses, high.wins)


def test_the_tests_made_are_the_tests_counted() -> None:
    tables = values("abcd")
    every = compare_replicates(tables, metric="x")
    against = compare_replicates(tables, metric="x", against="b")
    primary = compare_replicates(tables, metric="x", primary=("d", "b"))
    assert [(p.a, p.b) for p in every.pairs] == [*zip("aaabbc", "bcdcdd", strict=True)]
    assert [(p.a, p.b) for p in against.pairs] == [("a", "b"), ("c", "b"), ("d", "b")]
    assert [p.tests for p in every.pairs] == [6] * 6
    assert [p.tests for p in against.pairs] == [3] * 3
    first, *others = primary.pairs
    assert (first.a, first.b, first.tests, first.secondary, first.p_holm) == ("d", "b", 1, False, first.p)
    assert {(p.tests, p.secondary) for p in others} == {(5, True)}
    both = compare_replicates(tables, metric="x", against="b", primary=("b", "d"))
    assert [(p.a, p.b, p.tests) for p in both.pairs] == [("b", "d", 1), ("a", "b", 2), ("c", "b", 2)]
    ab = every.pairs[0]
    assert ab.simultaneous[0] < ab.interval[0]
    assert ab.detectable > against.pairs[0].detectable > 0


def test_after_a_primary_pair_that_is_undecided_nothing_is_claimed() -> None:
    tables = values("abc", step=0.0) | {"d": values("d")["d"] + 50}
    found = compare_replicates(tables, metric="x", primary=("a", "b"))
    assert found.pairs[0].verdict is Verdict.UNDECIDED
    assert {p.verdict for p in found.pairs} == {Verdict.UNDECIDED}
    declared = compare_replicates(tables, metric="x", primary=("a", "d"))
    assert [p.verdict for p in declared.pairs if "d" in (p.a, p.b)] == [Verdict.BETTER] * 3


def test_equality_within_a_margin_is_a_verdict() -> None:
    alike = values("ab", step=0.0)
    assert only(alike).verdict is Verdict.UNDECIDED
    found = only(alike, margin=5.0)
    assert (found.verdict, found.equal, found.better) == (Verdict.EQUAL, True, None)
    d = np.array(found.d)
    sides = [stats.ttest_1samp(d, side, alternative=way).pvalue for side, way in ((-5, "greater"), (5, "less"))]
    assert found.p_equal == pytest.approx(max(sides))
    different = only(values("ab", step=2.0), margin=50.0)
    assert (different.verdict, different.equal) == (Verdict.BETTER, True)
    far = only({name: table + 100 for name, table in alike.items()}, margin=0.05, relative=True)
    assert far.margin == pytest.approx(0.05 * np.mean([table.mean() + 100 for table in alike.values()]))
    assert far.verdict is Verdict.EQUAL
    with pytest.raises(ValueError, match="margin must be positive"):
        only(alike, margin=0.0)


def test_with_a_diverged_run_medians_are_ranked() -> None:
    tables = values("ab", searches=8)
    tables["b"][0, 0] = math.nan
    tables["b"][1, :2] = math.inf, -math.inf
    found = compare_replicates(tables, metric="x", margin=1.0)
    (pair,) = found.pairs
    a, b = found.optimizers
    assert (a.centre, b.centre) == ("mean", "median")
    assert b.y[0] == max(tables["b"][0, 1:])
    assert math.isnan(b.y[1])
    assert (b.diverged, b.diverged_replicates, b.diverged_share) == ((1, 2, 0, 0, 0, 0, 0, 0), 1, 3 / 24)
    assert math.isnan(b.mean)
    assert math.isfinite(b.median)
    y_a, y_b = np.median(tables["a"], axis=1), np.where(np.isfinite(b.y), b.y, np.inf)
    assert pair.d[1] == -math.inf
    assert pair.p == signed_rank(y_a, y_b)
    assert (pair.test, pair.needs, pair.verdict) == ("signed rank, exact", 6, Verdict.BETTER)
    assert math.isnan(pair.difference)
    assert math.isnan(pair.detectable)
    assert pair.needed is None
    assert not pair.equal
    assert pair.diverged == (0, 3 / 24)
    assert pair.p_diverged == 0.5  # two of two replicates with divergence: 2^(1 - 2)


def test_larger_is_better_and_diverged_is_worst() -> None:
    tables = values("ab", searches=8, step=0.0)
    tables["a"][:] = math.nan
    found = compare_replicates(tables, metric="x", direction="max")
    assert found.pairs[0].verdict is Verdict.WORSE
    assert found.pairs[0].losses == 8
    assert found.pairs[0].p_diverged == 2.0**-7
    assert math.isnan(found.optimizers[0].median)


@pytest.mark.parametrize("unpaired", [False, True])
@pytest.mark.parametrize("names", ["ab", "abcd"])
def test_too_few_replicates_for_ranks_say_how_many_it_takes(names: str, unpaired: bool) -> None:
    needs = {("ab", False): 6, ("abcd", False): 8, ("ab", True): 4, ("abcd", True): 5}[names, unpaired]
    for searches in (3, needs - 1, needs):
        tables = values(names, step=100, searches=searches)
        for table in tables.values():
            table[0, 0] = math.nan
        found = compare_replicates(tables, metric="x", unpaired_ranks=unpaired)
        assert {p.needs for p in found.pairs} == {needs}
        assert {p.test for p in found.pairs} == {"rank sum, exact" if unpaired else "signed rank, exact"}
        told = Verdict.BETTER if searches == needs else Verdict.MORE
        assert {p.verdict for p in found.pairs} == {told}


def test_one_search_is_no_replication() -> None:
    found = only(values("ab", searches=1))
    assert math.isnan(found.p)
    assert found.verdict is Verdict.MORE


def test_a_look_is_stricter_than_the_whole() -> None:
    tables = values("ab", searches=8)
    looks = Looks((4, 8))
    early = {name: table[:4] for name, table in tables.items()}
    first = compare_replicates(early, metric="x", looks=looks)
    last = compare_replicates(tables, metric="x", looks=looks)
    assert (first.look, last.look) == (1, 2)
    assert only(early).p < first.pairs[0].p_looks
    assert first.pairs[0].interval[0] < only(early).interval[0]  # repeated interval
    assert only(tables).p < last.pairs[0].p_looks
    assert first.pairs[0].strictest == pytest.approx(looks.nominal(0.05)[-1])
    with pytest.raises(ValueError, match="a K of"):
        compare_replicates({name: table[:5] for name, table in tables.items()}, metric="x", looks=looks)


def test_what_cannot_be_compared_is_refused() -> None:
    tables = values("ab")
    with pytest.raises(ValueError, match="two optimizers"):
        only({"a": tables["a"]})
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        only({"a": tables["a"], "b": tables["b"][:4]})
    with pytest.raises(ValueError, match="two optimizers"):
        only({name: table[0] for name, table in tables.items()})
    with pytest.raises(ValueError, match="adam is not compared"):
        only(tables, against="adam")
    with pytest.raises(ValueError, match="twice"):
        only(tables, primary=("a", "a"))
