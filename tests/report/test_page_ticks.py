"""The numbers at the page's logarithmic axes: few and round, over short ranges as over long ones."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

RANGES = [(0.8, 1.0), (4e-4, 6e-4), (0.1, 0.9), (0.02, 2.3), (1e-5, 0.1), (1e-5, 1e6), (3.0, 3.1)]


@pytest.fixture(scope="module")
def ticks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    """The page's own functions, run in a browser: values and texts by range and room."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium")
    script = (files("vrcli.report.page") / "templates" / "page.js").read_text(encoding="utf-8")
    (own,) = re.findall(r"^  function logTicks.*?(?=^  /\* Sets the numbers)", script, re.S | re.M)
    folder = tmp_path_factory.mktemp("ticks")
    asked = [[math.log10(low), math.log10(high)] for low, high in RANGES]
    body = f"""<pre id=o></pre><script>{own}
    const found = {{}};
    {json.dumps(asked)}.forEach((range, i) => [3, 6].forEach((room) => {{
      const values = logTicks(range, room);
      found[i + "/" + room] = [values, values.map(tickText)];
    }}));
    document.getElementById("o").textContent = JSON.stringify(found);</script>"""
    page = Path(folder / "ticks.html")
    page.write_text(body, encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--dump-dom"]
    done = subprocess.run([program, *flags, page.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, list[list[str]]] = json.loads(re.search(r'<pre id="o">(.*?)</pre>', done.stdout)[1])
    return found


@pytest.mark.parametrize("room", [3, 6])
@pytest.mark.parametrize("place", range(len(RANGES)))
def test_numbers_fit_and_tell_apart(ticks: dict[str, list[list[str]]], place: int, room: int) -> None:
    values, texts = ticks[f"{place}/{room}"]
    low, high = RANGES[place]
    assert 2 <= len(values) <= room + 1
    assert all(low * (1 - 1e-6) <= float(value) <= high * (1 + 1e-6) for value in values)
    assert all(float(one) < float(other) for one, other in pairwise(values))
    assert [float(text) for text in texts] == pytest.approx([float(value) for value in values], rel=1e-3)
    assert all(len(text) <= 7 for text in texts)
