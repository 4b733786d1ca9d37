"""The HTML report: one self-contained file with plots, tables and a contact sheet of de-identified frames.

It is made to be handed on, so every count in it went through :func:`usds.curation.stats.publishable`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from html import escape
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from string import Template
from typing import Any, Final

import cv2
import numpy as np

from usds.curation.plots import bar_chart, stacked_bar
from usds.curation.stats import (
    HIDDEN,
    SMALLEST_COUNT,
    Count,
    CountTable,
    Stats,
    publishable,
    publishable_total,
)
from usds.schemas.dataset import Dataset
from usds.schemas.files import atomic_path

__all__ = ["report_html", "write_report"]

THUMBNAIL_PIXELS: Final = 320
MAX_BARS: Final = 18
SHEET_FRAMES: Final = 24

_TILES: Final = (
    ("frames", "frames"), ("subjects", "subjects"), ("studies", "studies"), ("clips", "clips"),
    ("captions", "captions"), ("source_files", "source files"),
)  # fmt: skip
_DEID: Final = {
    "frames_with_redacted_text": "frames with redacted text",
    "text_boxes_redacted": "text boxes redacted",
    "frames_withheld": "frames withheld",
    "files_waiting_for_review": "files waiting for a person's review",
    "files_settled_by_a_person": "files settled by a person",
    "frames_with_boxes_of_a_person": "frames with boxes that a person drew",
    "frames_where_a_person_removed_boxes": "frames where a person removed boxes",
    "captions_withheld": "captions withheld",
    "caption_tokens_removed": "caption words removed",
    "subjects_in_conflict": "subjects with conflicting identity",
}


def write_report(dataset: Dataset, stats: Stats, path: Path) -> None:
    """Write the report to ``path``, atomically."""
    text = report_html(dataset, stats)
    with atomic_path(path) as partial:
        partial.write_text(text, "utf-8")


_FOOTER: Final = (
    "<p>Counts of 1 to 4 are printed as &lt;5; * stands for a count that would give one of them away by "
    "subtraction. All pictures were de-identified and verified before they were written to the dataset.</p>"
)


def report_html(dataset: Dataset, stats: Stats) -> str:
    """The report as one HTML document without any reference to the outside."""
    template = Template(resources.files("usds.curation").joinpath("report.html").read_text("utf-8"))
    labels = f"labels: {stats.annotation_set}" if stats.annotation_set else "not annotated"
    return template.substitute(
        title="Ultrasound dataset report",
        subtitle=escape(f"dataset {dataset.info.dataset_id} · made by {dataset.info.tool} · {labels}"),
        notices="\n".join(
            f'<p class="notice">{escape(hint[0].upper() + hint[1:])}.</p>' for hint in stats.missing
        ),
        tiles="\n".join(_tile(stats.totals[key], name) for key, name in _TILES),
        sections="\n".join(_sections(dataset, stats)),
        footer=_FOOTER,
    )


def _sections(dataset: Dataset, stats: Stats) -> Iterable[str]:
    tables = {table.key: table for table in (*stats.tables, *stats.labels) if table.rows}
    if stats.coverage is not None:
        share = stats.totals["frames"] or 1
        yield _section("Labels", [_coverage(publishable(stats.coverage), share)])
        yield _section("Label distributions", [_card(publishable(table)) for table in stats.labels])
    yield _section("Contact sheet", [], after=_contact_sheet(dataset, stats))
    if "split" in tables:
        yield _section("Split", [_split(publishable(tables["split"]))])
    names = ("modes", "vendors", "media", "quality", "sex", "age_bands", "captions")
    yield _section("What was recorded", [_card(publishable(tables[n])) for n in names if n in tables])
    names = ("outcomes", "subject_rules", "verified_by")
    cards = [_card(publishable(tables[n])) for n in names if n in tables]
    yield _section("Source files and de-identification", [*cards, _deid(stats.deid)])


def _section(title: str, cards: Sequence[str], after: str = "") -> str:
    body = f'<div class="cards">{"".join(cards)}</div>' if cards else ""
    return f"<section><h2>{escape(title)}</h2>{body}{after}</section>" if body or after else ""


def _tile(count: int, name: str) -> str:
    return f"<li><b>{_text(publishable_total(count))}</b><span>{escape(name)}</span></li>"


def _text(count: Count) -> str:
    return escape(f"{count:,}" if isinstance(count, int) else count)


def _length(count: Count) -> float:
    """Length of a bar: hidden counts all look the same."""
    return float(count) if isinstance(count, int) else SMALLEST_COUNT / 2


# -- cards ----------------------------------------------------------------------------------------------


def _card(table: CountTable) -> str:
    """A bar chart of the first column, and the whole table to open."""
    if not table.rows:
        return f'<div class="card"><h3>{escape(table.title)}</h3><p class="soft">no frame has one</p></div>'
    shown = dict(list(table.column().items())[:MAX_BARS])
    hidden = len(table.rows) - len(shown)
    plot = bar_chart(
        {_words(name): _length(count) for name, count in shown.items()},
        f"{table.title}: {table.columns[0]} by category",
        [f"{count:,}" if isinstance(count, int) else count for count in shown.values()],
    )
    more = f'<p class="soft">and {hidden} more in the table</p>' if hidden else ""
    title = f"{escape(table.title)} <span class='soft'>({escape(table.columns[0])})</span>"
    return f'<div class="card"><h3>{title}</h3>{plot}{more}{_table(table)}</div>'


def _words(name: str) -> str:
    return name.replace("_", " ")


def _table(table: CountTable) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in ("", *table.columns))
    rows = "".join(
        f"<tr><td>{escape(_words(name))}</td>{''.join(f'<td>{_text(count)}</td>' for count in counts)}</tr>"
        for name, counts in table.rows
    )
    return (
        f"<details><summary>Table: {escape(table.title)}</summary><div class='scroll'>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _coverage(table: CountTable, frames: int) -> str:
    counts = {name.replace("_", " "): count for name, count in table.column().items()}
    texts = [f"{c:,} ({c / frames:.0%})" if isinstance(c, int) else c for c in counts.values()]
    plot = bar_chart(
        {n: _length(c) for n, c in counts.items()}, "Frames that have a label, by dimension", texts
    )
    return f'<div class="card wide"><h3>Frames with a label, by dimension</h3>{plot}{_table(table)}</div>'


def _split(table: CountTable) -> str:
    sizes = {name: _length(count) for name, count in table.column().items()}
    plot = stacked_bar(sizes, "Frames by side of the split") if HIDDEN not in table.column().values() else ""
    return f'<div class="card wide"><h3>{escape(table.title)}</h3>{plot}{_open(_table(table))}</div>'


def _open(details: str) -> str:
    return details.replace("<details>", "<details open>", 1)


def _deid(deid: Mapping[str, float]) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{_text(publishable_total(int(deid[key])))}</td></tr>"
        for key, name in _DEID.items()
    )
    rows += "".join(
        f"<tr><td>{key} redacted share of a frame</td><td>{deid[f'{key}_redacted_fraction']:.2%}</td></tr>"
        for key in ("mean", "largest")
    )
    return f'<div class="card"><h3>De-identification</h3><table><tbody>{rows}</tbody></table></div>'


# -- contact sheet --------------------------------------------------------------------------------------


def _contact_sheet(dataset: Dataset, stats: Stats) -> str:
    """Frames in turn from every organ, in an order that follows from their ids alone."""
    chosen = _choose(dataset, stats)
    pixels = dataset.read_pixels([frame["frame_id"] for frame in chosen])
    items = [_figure(frame, pixels[frame["frame_id"]]) for frame in chosen]
    return f'<ul class="sheet">{"".join(items)}</ul>' if items else ""


def _choose(dataset: Dataset, stats: Stats) -> list[dict[str, Any]]:
    dimensions = [table.key for table in stats.labels]
    group = "organ" if "organ" in dimensions else dimensions[0] if dimensions else None
    label = f'"{group}"[1]' if group else "NULL"
    join = "LEFT JOIN annotations USING (frame_id)" if group else ""
    with dataset.connect(stats.annotation_set) as connection:
        rows = connection.execute(
            f"SELECT frame_id, subject_id, mode, {label} AS label FROM frames {join} "
            "WHERE duplicate_of IS NULL QUALIFY row_number() OVER "
            f"(PARTITION BY {label} ORDER BY md5(subject_id), frame_id) <= {SHEET_FRAMES}"
        ).fetchall()
    groups: dict[str | None, list[dict[str, Any]]] = {}
    for frame_id, subject_id, mode, name in sorted(
        rows, key=lambda row: (row[3] is None, row[3], _order(row[0]))
    ):
        groups.setdefault(name, []).append(
            {"frame_id": frame_id, "subject_id": subject_id, "mode": mode, "label": name}
        )
    turns = [frame for turn in zip_longest(*groups.values()) for frame in turn if frame is not None]
    return turns[:SHEET_FRAMES]


def _order(frame_id: str) -> str:
    return sha256(frame_id.encode()).hexdigest()


def _figure(frame: Mapping[str, Any], image: bytes) -> str:
    name = frame["label"] or "no organ named"
    mode = str(frame["mode"]).replace("_", " ")
    alt = escape(f"{mode} ultrasound frame: {name}", quote=True)
    return (
        f'<li><figure><img alt="{alt}" src="data:image/jpeg;base64,{_thumbnail(image)}">'
        f"<figcaption>{escape(name)}<br><small>{escape(mode)}</small></figcaption></figure></li>"
    )


def _thumbnail(image: bytes) -> str:
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError("an image of the dataset cannot be decoded")
    scale = min(1.0, THUMBNAIL_PIXELS / max(pixels.shape[:2]))
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return base64.b64encode(
        cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    ).decode()
