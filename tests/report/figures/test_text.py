"""Tables of figures as text."""

from __future__ import annotations

from vrcli.report.figures.text import table

ROWS = [{"optimizer": "vradam", "p, first better in": "0.1", "best half band": "0.05"}]


def test_a_wide_table_folds_its_headings_between_words() -> None:
    assert len(table(ROWS, 80).splitlines()) == 2
    told = table(ROWS, 30).splitlines()
    assert max(map(len, told)) <= 30
    words = {word for name in ROWS[0] for word in name.split()}
    assert words <= {word for line in told for word in line.split()}


def test_a_table_that_fits_in_no_way_is_a_list() -> None:
    assert [line.split()[-1] for line in table(ROWS, 15).splitlines()] == ["vradam", "0.1", "0.05"]
