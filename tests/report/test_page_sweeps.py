"""The searches of the HTML page."""

from __future__ import annotations

import math

from vrcli.report.page.sweeps import search_block
from vrcli.results.trials import Search, Trial


def test_sweeps_show_the_best_so_far_and_never_draw_what_was_lost():
    states = [("completed", 3.0), ("diverged", math.nan), ("pruned", 2.5), ("completed", 1.0), ("running", None)]
    trials = [
        Trial(i + 1, {"lr": 10.0**-i, "on": i > 1}, state, value, 5, i) for i, (state, value) in enumerate(states)
    ]
    search = Search(7, "some-name", ("cnn", "digits", "", "quick"), "sgd", 10, "running", trials, "vr run again")
    found = search_block([search], {"sgd": "sgd"})
    plotted = found.data["searches"][0]
    assert plotted["v"] == [3, None, 2.5, 1]
    assert plotted["best"] == [3, 3, 2.5, 1]
    assert plotted["params"][1] == {"lr": 0.1, "on": "False"}
    assert [(p["name"], p["category"], p["log"]) for p in found.data["parameters"]] == [
        ("lr", False, True),
        ("on", True, False),
    ]
    row = found.rows[0]
    assert (row.best, row.found, row.command) == ("1.000", "lr=0.001 on=True", "vr run again")
    assert row.diverged == "1/4 (25 %)"
    assert row.counts == "4/10 (1 pruned, 1 running)"
