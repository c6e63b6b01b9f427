"""Ratings: files of several forms, what is wrong with them, biases, and splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vrcli.tasks.base import Splits, TaskError
from vrcli.tasks.ratings import Ratings, RatingsConfig, biases, dense, read_ratings

LINES = ["u1\ta\t4\t88", "u1\tb\t2.5\t88", "u2\ta\t5\t88", "u3\tc\t1\t88"]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def load(dataset: Path | str, **settings: Any) -> Splits:
    task = Ratings(RatingsConfig(dataset=str(dataset), **settings))
    return task.data(torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mark", ["\t", ",", ";", "::", " ", "   "])
def test_lines_may_be_separated_by_any_usual_mark(tmp_path: Path, mark: str) -> None:
    path = write(tmp_path / "u.data", *(line.replace("\t", mark) for line in LINES))
    users, items, ratings = read_ratings(path)
    assert users.tolist() == ["u1", "u1", "u2", "u3"]
    assert items.tolist() == ["a", "b", "a", "c"]
    assert ratings.tolist() == [4, 2.5, 5, 1]


def test_names_of_columns_may_stand_on_the_first_line(tmp_path: Path) -> None:
    assert len(read_ratings(write(tmp_path / "a.csv", "userId,movieId,rating,timestamp", "1,2,3,4"))[2]) == 1


@pytest.mark.parametrize(
    "bad",
    ["1\t2", "1\t2\t\t3", "1\t2\tfour\t3", "1\t2\tnan\t3", "1\t\t3", "", "1\t2\tinf"],
    ids=["missing", "empty", "no number", "nan", "no item", "no line", "infinite"],
)
def test_a_bad_line_is_refused_by_its_number(tmp_path: Path, bad: str) -> None:
    path = write(tmp_path / "u.data", LINES[0], bad, *LINES[1:])
    with pytest.raises(TaskError, match="line 2: not a user, an item and a rating"):
        load(path)


@pytest.mark.parametrize(
    ("lines", "said"),
    [([], "has no ratings"), ([*LINES, "u1\ta\t3"], "user u1 rates item a twice"), (LINES[:2], "each needs one")],
    ids=["none", "twice", "few"],
)
def test_what_cannot_be_split_is_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    path = tmp_path / "u.data"
    path.write_text("\n".join(lines))
    with pytest.raises(TaskError, match=said):
        load(path)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="is no file or folder; named data sets are synthetic, movielens, jester"):
        load(tmp_path / "nowhere")
    with pytest.raises(TaskError, match=r"is a folder without u.data or ratings.npz"):
        load(tmp_path)
    with pytest.raises(TaskError, match=r"--dataset movielens: there is no .*u.data"):
        Ratings(RatingsConfig(dataset="movielens"), data_dir=tmp_path).data(torch.Generator())
    (tmp_path / "ratings.npz").write_bytes(b"no zip")
    with pytest.raises(TaskError, match="cannot be read as ratings"):
        load(tmp_path)


def test_a_refused_file_stores_nothing(vr: Any, tmp_path: Path) -> None:
    write(tmp_path / "u.data", "1\t2\tfour\t3")
    done = vr("run", "ratings", "--preset", "smoke", "--opt", "adamw", "--dataset", "u.data")
    assert (done.code, done.out) == (2, "")
    assert "u.data, line 1: not a user, an item and a rating" in done.err
    assert vr("runs", "list", "--format", "json").out.strip() in ("", "[]")


def test_jesters_layout_is_read_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "jester5k"
    folder.mkdir()
    user, joke = np.divmod(np.arange(30, dtype=np.int16), 5)
    np.savez(folder / "ratings.npz", user=user + 1, joke=joke + 1, rating_x100=(100 * user - joke).astype(np.int16))
    target, known = dense(folder / "ratings.npz")
    assert target.shape == (6, 5)
    assert known.all()
    assert target[2, 3] == pytest.approx(1.97)
    for task in (
        Ratings(RatingsConfig(dataset="jester"), data_dir=tmp_path),
        Ratings(RatingsConfig(dataset=str(folder))),
    ):
        data = task.data(torch.Generator().manual_seed(0))
        assert [int(split.tensors[1].sum()) for split in (data.train, data.val, data.test)] == [21, 3, 6]
        assert task.files() == [folder / "ratings.npz"]


def test_biases_are_found_where_there_is_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = 3 + torch.randn(80, 1, generator=generator) + torch.randn(1, 90, generator=generator)
    mask = torch.rand(80, 90, generator=generator) < 0.9
    assert (biases(truth * mask, mask) - truth).abs().mean() < 0.1


def test_no_held_out_rating_moves_a_bias() -> None:
    task = Ratings(RatingsConfig(users=20, items=15))
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:2] = True
    target = torch.ones(4, 4)
    hidden = target.clone()
    hidden[2:] = 100
    assert torch.equal(biases(target, mask), biases(hidden, mask))
    data = task.data(torch.Generator().manual_seed(0))
    assert not (data.train.tensors[1] & (data.val.tensors[1] | data.test.tensors[1])).any()


def test_without_factors_the_ratio_is_one() -> None:
    task = Ratings(RatingsConfig(users=20, items=15))
    data = task.data(torch.Generator().manual_seed(0))
    model = task.model(data)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert task.evaluate(model, data.test)["ratio"] == pytest.approx(1.0)
