"""The HTML page: what is embedded is safe and complete, and a real browser shows it, sorts it and loads nothing."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import shutil
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vrcli.report.page.data import Source, page_of
from vrcli.report.page.json import embeddable
from vrcli.report.page.render import render_page
from vrcli.report.page.tables import labels
from vrcli.results.selection import Selection
from vrcli.results.trials import Search, Trial

HOSTILE = """<img src=x onerror="window.hit=1"><script>window.hit=1</script>'&amp;%{x}</script> -->"""
LONG = "long-" * 1000


def curve(values: Sequence[float], every: int = 1) -> SimpleNamespace:
    return SimpleNamespace(steps=array("q", range(every, every * len(values) + 1, every)), values=array("d", values))


@pytest.fixture
def make_source(make_run: Callable[..., Any]) -> Callable[..., Source]:
    """A page's source of fake runs: three seeds of each optimizer by default, with falling curves."""

    def make(
        optimizers: Sequence[str] = ("adamw", "sgd"), *, seeds: int = 3, points: int = 60, epochs: int = 6,
        diverged: Mapping[int, int] | None = None, searches: Sequence[Search] = (), database: str = "some.db",
        command: str = "", notes: Sequence[str] = (), about: Mapping[str, Any] | None = None, **settings: Any,
    ) -> Source:  # fmt: skip
        runs, curves = [], {}
        random = np.random.default_rng(0)
        for place, optimizer in enumerate(optimizers):
            for seed in range(seeds):
                loss = 0.1 + place + 0.01 * seed + 0.02 * random.random()
                base = make_run(optimizer, seed, loss, results={"wall_s": 3.0 + seed}, **settings)
                extra = {"name": f"name-{base.id}", "spec_id": "5bec", "tag": None, "group": None, "error": None}
                extra |= {
                    "host": "here",
                    "sweep_id": None,
                    "search_id": None,
                    "trial_id": None,
                    "settings": base.settings,
                    "configuration": base.configuration,
                    **(about or {}),
                }
                lost = (diverged or {}).get(base.id)
                extra |= {"status": "diverged", "results": {}} if lost else {}
                run = SimpleNamespace(**{**vars(base), **extra})
                runs.append(run)
                train = loss + np.exp(-np.arange(points) / 20) + 0.01 * random.random(points)
                if lost:
                    train = np.append(train[: lost - 1], math.nan)
                curves[run.id, "train_loss"] = curve(train.tolist())
                each = points // epochs
                curves[run.id, "val_loss"] = curve([loss + 1 / (e + 1) for e in range(epochs)], each)
                curves[run.id, "epoch"] = curve([float(e + 1) for e in range(epochs)], each)
                curves[run.id, "wall_s"] = curve([0.5 * (e + 1) for e in range(epochs)], each)

        def read(ids: Sequence[int], names: Sequence[str] | None) -> dict[tuple[int, str], Any]:
            wanted = set(ids)
            return {k: v for k, v in curves.items() if k[0] in wanted and (names is None or k[1] in names)}

        return Source(
            runs=runs, selection=Selection(runs, {}, 0, 0), searches=searches, commands={r.id: "vr run" for r in runs},
            read=read, known={}, database=database, version="9.9", made_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
            command=command, notes=notes,
        )  # fmt: skip

    return make


def embedded(html: str, id: str) -> Any:
    """The JSON of a script tag, found as a browser finds it: up to the first closing tag."""
    return json.loads(re.search(rf'<script type="application/json" id="{id}">(.*?)</script', html, re.S)[1])


# -- what is embedded -------------------------------------------------------------------------------------------------


def test_embedded_json_cannot_end_its_tag_and_survives_the_way():
    value = {"a": [HOSTILE, "\u2028\u2029", "ä\ud800"], "b": {"nested": "<!-- <script>"}, "n": [1.5, None, True]}
    text = embeddable(value)
    assert not re.search(r"[<>&\u2028\u2029]", text)
    assert json.loads(text) == value


def test_names_become_short_and_stay_apart():
    found = labels([LONG + "a", LONG + "b", "adamw"])
    assert len(set(found.values())) == 3
    assert all(len(text) <= 48 for text in found.values())
    assert found["adamw"] == "adamw"


def test_a_diverged_run_leaves_valid_json_and_is_counted(make_source: Callable[..., Source]):
    page = page_of(make_source(diverged={1: 20}))
    html = render_page(page)
    details = embedded(html, "details")
    assert details["1"]["diverged"] is True
    assert details["1"]["curves"][0]["y"][-1] is None
    assert ("diverged", "1") in page.facts
    series = embedded(html, "section-0-curves")["series"]
    assert sum(len(row["train_loss"]["diverged"]) for row in series) == 1


def test_comparisons_are_those_of_the_statistics(make_source: Callable[..., Source]):
    from scipy import stats

    source = make_source(seeds=4)
    section = page_of(source).sections[0]
    assert section.verdicts is not None
    (one,) = section.verdicts.found
    losses = [run.results["test_loss"] for run in source.runs]
    adamw, sgd = losses[:4], losses[4:]
    assert one.difference == pytest.approx(np.mean(adamw) - np.mean(sgd))
    assert one.n == 4
    assert one.better == "adamw"
    assert one.p == pytest.approx(stats.ttest_rel(adamw, sgd).pvalue)
    assert page_of(make_source(seeds=1)).sections[0].verdicts is None


def test_the_page_may_load_nothing(make_source: Callable[..., Source]):
    html = render_page(page_of(make_source()))
    assert "content=\"default-src 'none';" in html
    own = re.sub(r'<script type="text/plain" id="library">.*?</script>', "", html, flags=re.S)
    assert not re.search(r"https?://", own)
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=\"(?!data:)", own)


def test_hostile_text_is_escaped_wherever_it_stands(make_source: Callable[..., Source]):
    source = make_source(
        (HOSTILE, LONG), dataset=HOSTILE, database=HOSTILE, command=HOSTILE, notes=[HOSTILE],
        about={"tag": HOSTILE, "error": HOSTILE, "name": HOSTILE},
    )  # fmt: skip
    html = render_page(page_of(source))
    assert "<img" not in html
    assert "<script>window" not in html
    assert embedded(html, "details")["1"]["error"] == HOSTILE


# -- a real browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium, driven by its own driver: selenium fetches no browser and needs no Node.js."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield found
    found.quit()


class Opened:
    """A page in the browser, with every chart drawn."""

    def __init__(self, browser: Any, path: Path, width: int = 1280) -> None:
        self.browser = browser
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get_log("performance")
        browser.get_log("browser")
        browser.get(path.as_uri())
        for place in range(len(self.find(".charts"))):
            self.run(f"document.querySelectorAll('.charts')[{place}].scrollIntoView({{behavior: 'instant'}})")
            self.wait(f"return document.querySelectorAll('.charts')[{place}].querySelector('.main-svg') !== null")

    def run(self, script: str) -> Any:
        return self.browser.execute_script(script)

    def find(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def click(self, selector: str, place: int = 0) -> None:
        self.run(f"document.querySelectorAll({json.dumps(selector)})[{place}].click()")

    def wait(self, script: str) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.browser, 30).until(lambda _: self.run(script))

    def column(self, table: str, place: int) -> list[str]:
        cells = f"[...document.querySelectorAll('{table} tbody > tr:not(.detail):not([hidden])')]"
        return self.run(f"return {cells}.map((row) => row.cells[{place}].textContent.trim())")

    @property
    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]

    @property
    def requests(self) -> list[str]:
        events = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Callable[..., Opened]:
    def make(source: Source, width: int = 1280) -> Opened:
        path = tmp_path / "report.html"
        path.write_text(render_page(page_of(source)), encoding="utf-8")
        return Opened(browser, path, width)

    return make


def some_search(optimizer: str = "adamw") -> Search:
    trials = [Trial(i + 1, {"lr": 10.0 ** -(i % 5)}, "completed", 1 / (i + 1), 5, None) for i in range(8)]
    trials.append(Trial(9, {"lr": 10.0}, "diverged", math.nan, 1, None))
    return Search(1, "some-name", ("cnn", "digits", "ab12cd34", "quick"), optimizer, 9, "completed", trials)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, pytest.param(420, marks=pytest.mark.slow)])
def test_it_loads_without_errors_and_asks_for_nothing(make_source: Any, opened: Any, width: int):
    page = opened(make_source(searches=[some_search()], diverged={2: 30}), width)
    page.click("td.more button")
    page.wait("return document.querySelector('.detail .main-svg') !== null")
    requests = page.requests
    assert requests
    assert [url[:80] for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len([url for url in requests if url.startswith("file:")]) == 1
    assert page.complaints == []
    assert page.run("return document.documentElement.scrollWidth") <= width
    edges = page.run("return [...document.querySelectorAll('.plot .main-svg')].map((x) => x.getBoundingClientRect())")
    assert len(edges) >= 5
    assert all(0 <= edge["left"] < edge["right"] <= width for edge in edges)


@pytest.mark.browser
def test_tables_sort_by_number_both_ways_with_missing_values_last(make_source: Any, opened: Any):
    page = opened(make_source(("adamw", "sgd", "rmsprop", "lion"), diverged={5: 9}))
    ids = [int(text) for text in page.column("#runs-table", 1)]
    heads = page.run("return [...document.querySelectorAll('#runs-table th')].map((th) => th.textContent.trim())")
    at = heads.index("id")
    page.click("#runs-table th button", at - 1)
    assert [int(text) for text in page.column("#runs-table", at)] == sorted(ids)
    assert (
        page.run(f"return document.querySelectorAll('#runs-table th')[{at}].getAttribute('aria-sort')") == "ascending"
    )
    page.click("#runs-table th button", at - 1)
    assert [int(text) for text in page.column("#runs-table", at)] == sorted(ids, reverse=True)
    assert page.run("return document.querySelectorAll('[aria-sort]').length") == 1
    best = heads.index("best val")
    for _ in ("up", "down"):
        page.click("#runs-table th button", best - 1)
        column = page.column("#runs-table", best)
        assert column[-1] == "-"
        assert "-" not in column[:-1]
    page.click("#section-0 table.data th button", 0)
    assert page.column("#section-0 table.data", 0)[:4] == sorted(("adamw", "sgd", "rmsprop", "lion"))


@pytest.mark.browser
def test_runs_are_filtered_by_words_and_their_details_open(make_source: Any, opened: Any):
    page = opened(make_source(diverged={2: 20}))
    page.find("#filter")[0].send_keys("ADAMW div")
    assert page.column("#runs-table", 1) == ["2"]
    assert page.find("#count")[0].text == "1 of 6 runs"
    page.click("#runs-table tr:not([hidden]) td.more button")
    text = page.find("tr.detail")[0].text
    for part in ("name-2", "optimizer", "0.003", "cpu A", "vr run", "batch_size"):
        assert part in text
    page.click("#runs-table tr:not([hidden]) td.more button")
    assert page.find("tr.detail") == []


@pytest.mark.browser
def test_an_optimizer_is_switched_off_and_on_in_every_panel(make_source: Any, opened: Any):
    page = opened(make_source())
    names = "new Set(plot.data.map((trace) => trace.name).filter(Boolean))"
    traces = f"return [...document.querySelectorAll('.plot')].map((plot) => {names}.size)"
    assert page.run(traces) == [2, 2]
    drawn = len(page.find(".plot .scatterlayer .js-line"))
    page.click(".legend .key")
    page.wait(f"{traces.replace('return ', 'return JSON.stringify(')}) === '[1,1]'")
    assert page.find(".legend .key")[0].get_attribute("aria-pressed") == "false"
    assert len(page.find(".plot .scatterlayer .js-line")) < drawn
    page.click(".legend .key")
    assert page.run(traces) == [2, 2]


@pytest.mark.browser
def test_axes_change_their_positions_and_scale(make_source: Any, opened: Any):
    page = opened(make_source())
    change = "const s = document.querySelector('.panel .axis'); s.value = 'e'; s.dispatchEvent(new Event('change'))"
    page.run(change)
    assert page.run("return Math.max(...document.querySelector('.plot').data[0].x)") == 6
    before = page.run("return document.querySelector('.plot').layout.yaxis.type")
    page.click(".panel .log")
    assert {before, page.run("return document.querySelector('.plot').layout.yaxis.type")} == {"linear", "log"}
    assert page.complaints == []


@pytest.mark.browser
def test_hostile_text_stays_text(make_source: Any, opened: Any):
    about = {"tag": HOSTILE, "error": HOSTILE, "name": LONG}
    source = make_source(
        (HOSTILE, LONG), dataset=HOSTILE, fingerprint="f", database=HOSTILE, command=HOSTILE, notes=[HOSTILE],
        about=about, searches=[some_search(HOSTILE)], **{HOSTILE: HOSTILE},
    )  # fmt: skip
    page = opened(source)
    page.click("td.more button")
    page.wait("return document.querySelector('.detail .main-svg') !== null")
    assert page.run("return window.hit") is None
    assert page.find("img, iframe, object") == []
    assert page.run("return document.querySelector('.detail .error').textContent") == HOSTILE
    heads = page.run("return [...document.querySelectorAll('#runs-table th')].map((th) => th.textContent.trim())")
    assert set(page.column("#runs-table", heads.index("tag"))) == {HOSTILE}
    assert set(page.column("#runs-table", heads.index("name"))) == {LONG.strip()}
    assert page.run("return document.querySelector('.legend .key').textContent").strip().startswith("<img src=x")
    assert page.run("return document.documentElement.scrollWidth") <= 1280
    assert page.complaints == []


def many_runs(make_source: Callable[..., Source]) -> Source:
    """500 runs of 20,000 points in 50 configurations."""
    return make_source([f"opt{i:02}" for i in range(50)], seeds=10, points=20_000, epochs=100)


@pytest.mark.slow
def test_500_runs_fit_into_15_megabytes(
    make_source: Callable[..., Source], request: pytest.FixtureRequest, tmp_path: Path
):
    path = tmp_path / "report.html"
    path.write_text(render_page(page_of(many_runs(make_source))), encoding="utf-8")
    assert path.stat().st_size < 15e6
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        return
    page = Opened(request.getfixturevalue("browser"), path)
    times = "return ['interactive', 'charts'].map((name) => performance.getEntriesByName(name)[0].startTime)"
    table, charts = page.run(times)
    print(f"{path.stat().st_size:,} bytes, {table:.0f} ms to interactive tables, {charts:.0f} ms to the first chart")
    assert "extremes kept" in page.find(".drawn")[0].text
    assert page.complaints == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 420])
def test_settings_are_not_cut(make_source: Any, opened: Any, width: int):
    page = opened(
        make_source(about={"axes": [f"setting_{i}" for i in range(9)]}, **{f"setting_{i}": 1.5 for i in range(9)}),
        width,
    )
    assert page.run("return [...document.querySelectorAll('.words')].length") == 2 + 6
    assert page.run("return document.querySelector('#runs-table .words').innerText").count("=1.5") == 9
    cut = "return [...document.querySelectorAll('.words, .words span')].filter((x) => x.scrollWidth > x.clientWidth)"
    assert page.run(f"{cut}.length") == 0
    assert page.run("return document.documentElement.scrollWidth") <= width
