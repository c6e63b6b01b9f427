"""A database's address shows no password, however it is written and however it is shown."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from pathlib import Path

import pytest

from vrcli.db.errors import StoreError
from vrcli.db.location import Location
from vrcli.db.store import Store
from vrcli.passwords import masked, masked_line, masked_provenance

SECRET = "hunter2secret"

URLS = {
    f"postgresql://me:{SECRET}@host:5432/runs": "postgresql://me:***@host:5432/runs",
    f"postgresql+psycopg://me:a%40{SECRET}%3A@host/runs": "postgresql+psycopg://me:***@host/runs",
    f"postgres://me:a:b/{SECRET}?c@host/runs": "postgres://me:***@host/runs",
    f"postgresql://:{SECRET}@host/runs": "postgresql://:***@host/runs",
    f"postgresql://me@cloud:{SECRET}@host/runs": "postgresql://me@cloud:***@host/runs",
    f"postgresql://host/runs?user=me&password={SECRET}&sslmode=require": (
        "postgresql://host/runs?user=me&password=***&sslmode=require"
    ),
    f"postgresql://host/runs?sslpassword={SECRET}&PassFile=/home/{SECRET}": (
        "postgresql://host/runs?sslpassword=***&PassFile=***"
    ),
    f"postgresql://host/runs?oauth_client_secret={SECRET}&access_token={SECRET}&x=1": (
        "postgresql://host/runs?oauth_client_secret=***&access_token=***&x=1"
    ),
    f"postgresql+psycopg://me:{SECRET}@host/runs?password={SECRET}": "postgresql+psycopg://me:***@host/runs?password=***",
    f"postgresql://host/runs?pass%77ord={SECRET}": "postgresql://host/runs?password=***",
    f"postgresql://me:{SECRET}@host/runs?password={SECRET}%20{SECRET}": "postgresql://me:***@host/runs?password=***",
    f"postgresql:///runs?dbname=host=h password={SECRET}": "postgresql:///runs?dbname=host=h password=***",
    f"postgresql:///runs?dbname=host%3Dh+password%3D{SECRET}": "postgresql:///runs?dbname=host=h password=***",
}
#: What is refused, and must be refused without naming it.
REFUSED = {
    f"postgresql://me:a@{SECRET}@host/runs": "write it as %40",
    f"postgresql://me:{SECRET}@host:port/runs": "cannot be read",
    f"postgresql:me:{SECRET}@host/runs": r"postgresql:me:\*\*\*@host/runs is not a database URL",
    f"postgresql:/me:{SECRET}@host/runs": r"postgresql:/me:\*\*\*@host/runs is not a database URL",
    f"postgresql//me:{SECRET}@host/runs": r"postgresql//me:\*\*\*@host/runs is not a database URL",
    f"me:{SECRET}@host/runs": r"me:\*\*\*@host/runs is not a database URL",
    f"host=h user=me password={SECRET}": r"host=h user=me password=\*\*\* is not a database URL",
    f"mysql://me:{SECRET}@host/runs": "mysql is not a database",
    f"sqlite://me:{SECRET}@host": "kept in memory only",
}


@pytest.mark.parametrize("url", URLS)
def test_no_text_of_an_address_has_a_password(url: str) -> None:
    found = Location(url)
    as_json = json.dumps(found, default=str).strip('"')
    for text in (str(found), f"{found}", f"{found:>99}".strip(), as_json, masked(url)):
        assert text == URLS[url]
    texts = [repr(found), repr(vars(found).get("_shown")), repr([found]), f"{found!r}", masked(f"--db={url}")]
    texts += [repr(found.engine(read_only=True)), found.reason(ValueError(url))]
    assert all(SECRET not in text for text in texts), texts


@pytest.mark.parametrize("url", URLS)
def test_what_is_masked_stays_as_it_is(url: str) -> None:
    line = f"{masked(url)} cannot be opened: me@host, see the log: x@y"
    assert masked_line(line) == line
    assert masked(f"--db={masked(url)}") == f"--db={masked(url)}"


@pytest.mark.parametrize(("url", "message"), REFUSED.items())
def test_an_address_that_is_refused_is_not_repeated(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        Location(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value, limit=0))
    assert SECRET not in masked(f"there is no {url} here")


def test_the_driver_is_given_the_real_ones() -> None:
    for again in (lambda found: found, copy.deepcopy, lambda found: pickle.loads(pickle.dumps(found))):
        found = again(Location(f"postgresql://me:a%40{SECRET}@host/runs?sslpassword={SECRET}&sslmode=require"))
        engine = found.engine(read_only=False)
        given: dict[str, object] = {}
        engine.dialect.connect = lambda *_, given=given, **all: given.update(all)
        with pytest.raises(AttributeError):  # nothing was connected
            engine.connect()
        expected = {"user": "me", "password": f"a@{SECRET}", "host": "host", "dbname": "runs", "sslmode": "require"}
        assert expected.items() <= given.items()
        assert given["sslpassword"] == SECRET


def test_a_driver_that_repeats_a_password_is_not_quoted() -> None:
    found = Location(f"postgresql://me:a%40{SECRET}@host/runs?sslpassword=xyz%20%2F")
    said = f'bad "a@{SECRET}" and "a%40{SECRET}" and "xyz /" in postgresql://me:{SECRET}@host\nmore'
    assert found.reason(ValueError(said)) == 'bad "***" and "***" and "***" in postgresql://me:***@host'
    short = Location("postgresql://me:at@host/runs")
    assert short.reason(ValueError('what "at" said')) == 'what "***" said'


@pytest.mark.parametrize(
    "word", ["package.module:Class", "postgresql://u@h/db", "sqlite:///a.db", "--lr=0.1", "dataset=a", "vr.db", "a:b@c"]
)
def test_other_words_stay(word: str) -> None:
    assert masked(word) == word


def test_what_a_run_came_from_keeps_its_order_and_loses_passwords() -> None:
    words = ["vr", "run", f"--db=postgresql://u:{SECRET}@h/d", "VR_DB=postgresql://u:pw@h/d", f"password='{SECRET}'"]
    stored = {"a": 1, "argv": [*words, "\udcff"], "device": "cpu"}
    shown = json.loads(masked_provenance(json.dumps(stored)))
    expected = ["vr", "run", "--db=postgresql://u:***@h/d", "VR_DB=postgresql://u:***@h/d", "password=***", "\udcff"]
    assert shown == {"a": 1, "argv": expected, "device": "cpu"}
    assert list(shown) == list(stored)
    for text in ('{"cpu": "x"}', '{"argv": ["vr", "--db", "postgresql://u@h/d"]}', '{"directory": "file://x"}'):
        assert masked_provenance(text) == text


def test_a_refused_connection_names_no_password(tmp_path: Path) -> None:
    for end in (f"postgresql://me:{SECRET}@/d?host={tmp_path}", f"postgresql:///d?host={tmp_path}&password={SECRET}"):
        for call in (Store.open, Store.upgrade):
            with pytest.raises(StoreError, match=r"cannot be opened|could not be upgraded") as caught:
                call(end)
            assert SECRET not in str(caught.value)
