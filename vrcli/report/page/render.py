"""One HTML file that shows everything: no server, no network, opened from disk.

The page may load nothing (a content security policy says so to the browser), every text from the database is escaped
by the template or set as text, and the charts are drawn by plotly.js, which the file carries compressed.
"""

from __future__ import annotations

import base64
import gzip
from functools import cache
from importlib.resources import files

from vrcli.report.figures.style import COLOURS
from vrcli.report.page.data import Page
from vrcli.report.page.json import embeddable
from vrcli.report.page.tables import shortened
from vrcli.report.verdicts import verdict


def render_page(page: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("vrcli.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded"] = lambda value: Markup(embeddable(value))
    environment.filters["base64"] = lambda text: base64.b64encode(text.encode()).decode("ascii")
    environment.filters["short"] = shortened
    environment.filters["sentence"] = sentence
    environment.filters["verdict"] = verdict
    template = environment.get_template("page.html.j2")
    folder = files("vrcli.report.page") / "templates"
    return template.render(
        page=page,
        source=page.source,
        css=Markup((folder / "page.css").read_text(encoding="utf-8")),
        script=Markup((folder / "page.js").read_text(encoding="utf-8")),
        library=packed_library(),
        palette={"lines": page.palette, "pair": COLOURS[:2]},
    )


def sentence(text: str) -> str:
    """A note that stands among others: with a capital and a full stop, so that none runs into the next."""
    return text[:1].upper() + text[1:] + "." * (not text.endswith("."))


@cache
def packed_library() -> str:
    """plotly.js, compressed and in base64: a third of its size, and no character that ends a script tag."""
    source = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(source, 9, mtime=0)).decode("ascii")
