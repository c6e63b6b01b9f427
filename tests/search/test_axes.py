import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrcli.errors import UsageError
from vrcli.search.axes import Axes, describe, key, parse_space, restore
from vrcli.tasks.space import Categorical, Integer, Real

PROFILE = settings(deadline=None, derandomize=True, max_examples=60)


@pytest.mark.parametrize(
    ("text", "name", "axis"),
    [
        ("lr=log:1e-5:1e-1", "lr", Real(1e-5, 1e-1, log=True, origin="--space")),
        ("beta3=0.1:5", "beta3", Real(0.1, 5.0, origin="--space")),
        ("lr_cutoff=int:5:30", "lr_cutoff", Integer(5, 30, origin="--space")),
        ("lr-cutoff=int:5:30", "lr_cutoff", Integer(5, 30, origin="--space")),
        ("width=log:int:8:512", "width", Integer(8, 512, log=True, origin="--space")),
        ("normgrad=true,false", "normgrad", Categorical((True, False), origin="--space")),
        ("momentum=0,0.9,none", "momentum", Categorical((0, 0.9, None), origin="--space")),
        ("norm_scope=global,group", "norm_scope", Categorical(("global", "group"), origin="--space")),
    ],
)
def test_the_notation_of_an_axis(text, name, axis):
    assert parse_space(text) == (name, axis)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lr=0.1:0.01", "low must be below high"),
        ("lr=1:1", "low must be below high"),
        ("lr=log:0:1", "log axis needs low > 0"),
        ("lr=log:-1:1", "log axis needs low > 0"),
        ("lr=a:b", "'a' is not a number"),
        ("lr=nan:1", "finite"),
        ("lr=0:inf", "finite"),
        ("k=int:1.5:3", "'1.5' is not a whole number"),
        ("k=int:1:inf", "'inf' is not a whole number"),
        ("lr=lin:1:2", "not a range"),
        ("lr=1:2:3", "not a range"),
        ("lr=log:log:1:2", "not a range"),
        ("lr=1e-5:1e-1:log", "not a range; write lr=log:"),
        ("lr=0.1", "--fix"),
        ("normgrad=true,true", "two different values"),
        ("lr", "not an axis"),
        ("lr=", "not an axis"),
        ("=1:2", "not an axis"),
        ("3x=1:2", "not an axis"),
    ],
)
def test_nonsense_is_refused_with_its_reason(text, says):
    with pytest.raises(UsageError, match=says) as refused:
        parse_space(text)
    assert "\n" not in str(refused.value)
    assert str(refused.value).count("write ") == 1


axes = st.one_of(
    st.tuples(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3)).map(lambda t: Real(t[0], t[0] + t[1])),
    st.tuples(st.floats(1e-8, 1.0), st.floats(1.001, 1e6)).map(lambda t: Real(t[0], t[0] * t[1], log=True)),
    st.tuples(st.integers(-50, 50), st.integers(1, 40)).map(lambda t: Integer(t[0], t[0] + t[1])),
    st.tuples(st.integers(1, 50), st.integers(1, 400)).map(lambda t: Integer(t[0], t[0] + t[1], log=True)),
    st.lists(st.sampled_from([True, False, None, "a", "b", 1, 0.5]), min_size=2, max_size=5, unique_by=repr).map(
        lambda values: Categorical(tuple(values))
    ),
)


@PROFILE
@given(st.lists(axes, min_size=1, max_size=6), st.data())
def test_points_are_inside_and_survive_the_way_back(dims, data):
    space = {f"x{i}": axis for i, axis in enumerate(dims)}
    cube = Axes(space)
    unit = data.draw(st.lists(st.floats(0, 1), min_size=len(dims), max_size=len(dims)))
    point = cube.point(unit)
    for name, axis in space.items():
        if isinstance(axis, Categorical):
            assert any(point[name] is c or (point[name] == c and type(point[name]) is type(c)) for c in axis.choices)
        else:
            assert axis.low <= point[name] <= axis.high
            assert type(point[name]) is (int if isinstance(axis, Integer) else float)
    again = cube.point(cube.unit(point))
    for name, axis in space.items():
        if isinstance(axis, Real):
            width = (axis.high - axis.low) if not axis.log else min(point[name], axis.high - axis.low)
            assert math.isclose(again[name], point[name], abs_tol=2e-5 * width)
        else:
            assert key({name: again[name]}) == key({name: point[name]})
    columns = cube.features([point])
    assert columns.shape == (1, len(cube.owners()))
    assert ((columns >= 0) & (columns <= 1)).all()


def test_every_whole_number_and_choice_has_the_same_room():
    cube = Axes({"k": Integer(3, 6)})
    drawn = [cube.point([(i + 0.5) / 4000])["k"] for i in range(4000)]
    assert [drawn.count(k) for k in (3, 4, 5, 6)] == [1000] * 4
    cube = Axes({"c": Categorical(("a", "b", "c"))})
    drawn = [cube.point([(i + 0.5) / 3000])["c"] for i in range(3000)]
    assert [drawn.count(c) for c in "abc"] == [1000] * 3


def test_a_log_axis_is_uniform_in_the_exponent():
    cube = Axes({"lr": Real(1e-5, 1e-1, log=True)})
    assert [cube.point([u])["lr"] for u in (0, 0.25, 0.5, 1)] == [1e-5, 1e-4, 1e-3, 1e-1]


def test_real_values_are_short():
    cube = Axes({"beta3": Real(0.1, 5.0), "lr": Real(1e-5, 1e-1, log=True)})
    point = cube.point([1 / 3, 1 / 3])
    assert len(repr(point["beta3"]).replace(".", "").lstrip("0")) <= 6
    assert f"{point['lr']:.6g}" == f"{point['lr']:.12g}"


def test_the_size_of_a_space_and_all_its_points():
    cube = Axes({"k": Integer(0, 3), "c": Categorical((True, False))})
    assert cube.size() == 8
    assert len({key(p) for p in cube.every()}) == 8
    assert Axes({"k": Integer(0, 3), "lr": Real(0, 1)}).size() == math.inf
    assert Axes({}).size() == 1


def test_a_stored_space_comes_back_the_same():
    space = {
        "lr": Real(1e-5, 1e-1, log=True, origin="Table 6"),
        "k": Integer(1, 9),
        "c": Categorical((True, False, None, "x", 0.5)),
    }
    import json

    plain = json.loads(json.dumps(describe(space)))
    assert restore(plain, {"lr": "Table 6"}) == space
