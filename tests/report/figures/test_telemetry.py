"""Telemetry: a panel for each metric."""

from __future__ import annotations

import sys
from pathlib import Path

from vrcli.report.figures import telemetry as telemetry_figure
from vrcli.report.figures.text import Page

sys.path.insert(0, str(Path(__file__).parent))
from samples import RUNS, telemetry


def test_telemetry_has_a_plot_per_metric() -> None:
    text = telemetry_figure.text(telemetry({"loss": {"a": RUNS}, "gate": {"a": RUNS}}).rows, Page(), "step")
    assert [row for row in text.splitlines() if row in ("loss", "gate")] == ["loss", "gate"]
