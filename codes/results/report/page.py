"""A page of HTML that needs no network: headings, tables, pictures. All text given to it is escaped."""

from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from itertools import count
from typing import Any

from plotly.io import templates, to_html
from plotly.offline import get_plotlyjs

from codes.results.report.style import Picture

STYLE = """
:root { color-scheme: light dark; --line: #d5d9de; --soft: #f5f6f8; --text: #1c2733; --back: #fff; --accent: #0058a3; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3c444d; --soft: #20262d; --text: #e3e7ec; --back: #14181d; --accent: #79b8f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 2rem 4rem; max-width: 80rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; } p { margin: .3rem 0 .8rem; max-width: 62rem; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .6rem 0 1rem; } a { color: var(--accent); }
.found { font-size: 1.1rem; border-left: 4px solid var(--accent); padding: .4rem 0 .4rem .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-bottom: 1rem; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; } td:first-child { white-space: nowrap; }
.numbers th:not(:first-child), .numbers td:not(:first-child) { text-align: right; }
figure { margin: 0 0 1rem; padding: .6rem; background: #fff; color: #1c2733; border: 1px solid var(--line);
  border-radius: 4px; min-width: 0; overflow: hidden; }
figcaption { font-size: .85rem; color: #45525f; } figure h4 { margin: 0; font-size: .95rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 0 1rem; }
.halves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 0 1rem; }
pre { background: var(--soft); padding: 1rem; overflow-x: auto; font-size: .85rem; } summary { cursor: pointer; }
@media print { nav { display: none; } figure { break-inside: avoid; } }
"""
# Pictures are drawn while the page is read, when neither the columns beside them nor the scroll bar are there.
FIT = """<script>addEventListener("load", () => {
  document.querySelectorAll(".plotly-graph-div").forEach(picture => Plotly.Plots.resize(picture));
});</script>"""
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "title": None,
    "width": None,
    "autosize": True,
    "margin": {"l": 70, "r": 20, "t": 20, "b": 50},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    "font": {"family": "system-ui, sans-serif", "size": 12},
}
# What nobody needs here; with all of them they cover the legend of a picture that is half as wide as the page.
NO_BUTTONS = ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]


def page(title: str, sections: Iterable[tuple[str, str]], lead: str = "") -> str:
    """A whole document of ``(heading, content)`` under ``lead``, with plotly.js in it once."""
    shown = [(heading, content) for heading, content in sections if content]
    links = "".join(f'<a href="#{_anchor(heading)}">{escape(heading)}</a>' for heading, _ in shown)
    body = "".join(
        f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>\n{content}</section>\n' for name, content in shown
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style>\n<script>{get_plotlyjs()}</script></head>\n"
        f"<body><header><h1>{escape(title)}</h1>{lead}<nav>{links}</nav></header>\n<main>{body}</main>{FIT}</body></html>\n"
    )


def _anchor(heading: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in heading.lower()).split())


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n"


def link(text: str, address: str) -> str:
    """A paragraph that leads to another file."""
    return f'<p><a href="{escape(address)}">{escape(text)}</a></p>\n'


def subheading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = False) -> str:
    """``rows`` under ``header``; with ``numbers`` all columns but the first are aligned to the right."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    kind = ' class="numbers"' if numbers else ""
    top = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    return f'<div class="scroll"><table{kind}>{top}<tbody>{body}</tbody></table></div>\n'


def folded(summary: str, text: str) -> str:
    """Preformatted ``text`` that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>\n"


class Gallery:
    """Makes HTML of pictures, each with a number of its own on the page."""

    def __init__(self) -> None:
        self.numbers = count(1)

    def show(self, *pictures: Picture, layout: str = "") -> str:
        """``pictures`` below each other, or in a ``grid`` or in ``halves``; one without a figure is a sentence."""
        body = "".join(map(self._figure, pictures))
        return f'<div class="{layout}">\n{body}</div>\n' if layout else body

    def _figure(self, picture: Picture) -> str:
        title, text = escape(picture.title), escape(picture.text)
        if picture.figure is None:
            return f"<figure><h4>{title}</h4><figcaption>{text}</figcaption></figure>\n"
        drawn = to_html(
            _in_page(picture.figure.to_dict(), picture.height),
            full_html=False,
            include_plotlyjs=False,
            div_id=f"picture-{next(self.numbers)}",
            config={"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": NO_BUTTONS},
            validate=False,
        )
        return (
            f'<figure><h4>{title}</h4><div role="img" aria-label="{title}. {text}">{drawn}</div>'
            f"<figcaption>{text}</figcaption></figure>\n"
        )


def _in_page(figure: dict[str, Any], height: int) -> dict[str, Any]:
    """``figure`` in the style of the page, but for margins of its own.

    Plotly's own objects check and copy the whole template for each picture, which takes longer than to draw it.
    """
    own = figure["layout"]
    nested = {name: {**own.get(name, {}), **LAYOUT[name]} for name in ("legend", "font")}
    margin = {**LAYOUT["margin"], **own.get("margin", {})}
    layout = {**own, **LAYOUT, **nested, "margin": margin, "height": height, "template": _template()}
    return {**figure, "layout": {name: value for name, value in layout.items() if value is not None}}


@cache
def _template() -> dict[str, Any]:
    return templates[LAYOUT["template"]].to_plotly_json()
