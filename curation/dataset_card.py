"""The dataset card: what is in a dataset, how it was made, and whether it was audited.

It travels with an export, so every count went through :func:`usds.curation.stats.publishable`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from usds.curation.audit.run import passes
from usds.curation.samples import Samples
from usds.curation.stats import Count, CountTable, Stats, collect_stats, publishable, publishable_total
from usds.schemas.dataset import Dataset

__all__ = ["audit_state", "dataset_card"]

_LONGEST: Final = 15
_CLEANED: Final = (
    "- Pixels: cropped to the ultrasound image area, text inside it blacked, encoded again, then checked by",
    "  a second reader. Headers passed through lookup tables only; free text through a scrubber.",
)
_AS_RELEASED: Final = (
    "- Pixels and captions are those of a published release: usds de-identified nothing in them.",
)
_MADE: Final = (
    "- Labels: rules map captions onto the taxonomy, or come from the release that the label set is named",
    "  after; `negated` and `uncertain` findings stand apart.",
    "- Ids are keyed hashes: nobody without the key can compute them from a name or number.",
)
_LIMITS: Final = (
    "- De-identification was measured, not proven. Look at the data before you pass it on, and do not try",
    "  to identify anybody.",
    "- Labels are what captions say, not what a second reader saw; a frame without one is not normal.",
    "- For research. No medical device.",
)


def audit_state(dataset: Dataset) -> str:
    """One sentence: whether the dataset, as it is now, passed ``usds audit``."""
    if passes(dataset):
        return "`usds audit` found nothing in this state of the dataset."
    return "**Not audited**: this state of the dataset has no passing `usds audit`."


def dataset_card(samples: Samples, *, title: str, licence: str | None = None) -> str:
    """Markdown of the card, without front matter.

    Parameters
    ----------
    samples : Samples
        What is exported.
    title : str
        Heading.
    licence : str, optional
        What the holder of the data states; without one the card says that none is stated.
    """
    dataset = samples.dataset
    stats = collect_stats(dataset, set_name=samples.set_name, split=samples.split)
    return "\n".join(_lines(samples, stats, title, licence)) + "\n"


def _lines(samples: Samples, stats: Stats, title: str, licence: str | None) -> Iterator[str]:
    info = samples.dataset.info
    yield f"# {title}"
    yield ""
    yield "Ultrasound frames with captions and labels, in the form that usds gives them."
    yield ""
    yield f"- dataset `{info.dataset_id}`, made by {info.tool}; labels `{samples.set_name}`, split by subject"
    yield f"- licence: {licence or 'none stated; ask who gave you the data'}"
    yield f"- {audit_state(samples.dataset)}"
    yield "- counts of 1 to 4 are printed as `<5`, and `*` hides a count that would give one away"
    yield ""
    yield "## Sides"
    yield from _markdown(_sides(samples))
    if stats.coverage is not None:
        yield "## Frames with a label"
        yield from _markdown(stats.coverage)
    for table in stats.labels:
        if table.rows:
            yield f"## {table.title}"
            yield from _markdown(table)
    # An import of published data names no detector: what it stores was cleaned by its publishers, if at all.
    pixels = _AS_RELEASED if info.detector.startswith("none") else _CLEANED
    yield from ("## How it was made", "", *pixels, *_MADE, "", "## Limits", "", *_LIMITS)


def _sides(samples: Samples) -> CountTable:
    columns = ("frames", "subjects", "captions")
    rows = tuple((side, tuple(n[c] for c in columns)) for side, n in samples.counts().items())
    return CountTable("sides", "Sides", columns, rows)


def _markdown(table: CountTable) -> Iterator[str]:
    hidden = publishable(table)
    yield ""
    yield "| | " + " | ".join(table.columns) + " |"
    yield "|---" * (len(table.columns) + 1) + "|"
    for name, counts in hidden.rows[:_LONGEST]:
        yield f"| {name} | " + " | ".join(_text(publishable_total(count)) for count in counts) + " |"
    if len(hidden.rows) > _LONGEST:
        yield f"| {len(hidden.rows) - _LONGEST} more |" + " |" * len(table.columns)
    yield ""


def _text(count: Count) -> str:
    return f"{count:,}" if isinstance(count, int) else count
