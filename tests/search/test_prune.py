import pytest

from vrcli.search.prune import limits

CURVES = [[5.0, 4.0, 6.0, 1.0], [9.0, 8.0, 7.0, 6.0], [3.0, 2.0, 1.0, 0.5], [7.0, 7.5, 6.0, 5.0], [8.0]]


def test_none_stops_nothing():
    assert limits("none", CURVES, 4) == {}


def test_the_median_is_of_the_best_so_far_of_those_that_came_that_far():
    assert limits("median", CURVES, 4) == {1: 7.0, 2: (4.0 + 7.0) / 2, 3: (4.0 + 6.0) / 2}


def test_the_median_needs_a_few_trials():
    assert limits("median", CURVES[:3], 4) == {}


def test_the_median_leaves_the_first_fifth_alone():
    curve = [float(9 - i % 3) for i in range(20)]
    assert min(limits("median", [curve] * 5, 20)) == 4


def test_halving_keeps_the_best_third_at_its_rungs():
    curves = [[float(i)] * 9 for i in range(9)]
    assert limits("halving", curves, 9) == {1: 2.0, 3: 2.0}
    assert limits("halving", curves[:3], 9) == {1: 0.0, 3: 0.0}
    assert limits("halving", curves[:2], 9) == {}


@pytest.mark.parametrize("rule", ["median", "halving"])
def test_a_run_of_one_epoch_cannot_be_stopped_early(rule):
    assert limits(rule, [[1.0]] * 9, 1) == {}
