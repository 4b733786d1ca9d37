"""The evaluation as one HTML file that needs nothing beside it, light or dark, on any width of screen."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Final, NamedTuple

from usds.schemas.files import atomic_path

__all__ = ["Picture", "write_page"]

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; color: #1a1a18; background: #fff }
@media (prefers-color-scheme: dark) { :root { color: #f4f4f1; background: #141413 } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: break-word }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .2rem .7rem; border-bottom: 1px solid #8885; text-align: left; vertical-align: top }
figure { margin: 1.5rem 0 }
figcaption { font-weight: 600 }
img { max-width: 100%; background: #fff }
</style>
<h1>$title</h1>
$body
</html>
""")


class Picture(NamedTuple):
    """A PNG file, its heading, and what it shows for those who cannot see it."""

    path: Path
    heading: str
    shows: str


def write_page(
    title: str, tables: Sequence[tuple[str, Sequence[Sequence[str]]]], pictures: Sequence[Picture], path: Path
) -> None:
    """Write the page.

    Parameters
    ----------
    title : str
        Heading of the page.
    tables : sequence of (str, rows)
        Heading of each table and its rows, the first one naming the columns.
    pictures : sequence of Picture
        Stand below the tables, inside the file.
    path : Path
        The HTML file.
    """
    parts = [f"<h2>{escape(name)}</h2>{_table(name, rows)}" for name, rows in tables]
    body = "".join([*parts, "<h2>Pictures</h2>", *map(_figure, pictures)])
    with atomic_path(path) as partial:
        partial.write_text(_PAGE.substitute(title=escape(title), body=body), "utf-8")


def _table(name: str, rows: Sequence[Sequence[str]]) -> str:
    head, *others = rows
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in others)
    # A wide table scrolls by itself, by keyboard too.
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name)}">'
        f"<table><tr>{cells}</tr>{lines}</table></div>"
    )


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode()
    return (
        f'<figure><img alt="{escape(picture.shows)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.heading)}</figcaption></figure>"
    )
