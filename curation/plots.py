"""Plots of the report as inline SVG that takes the colour of the page's text, in light and dark alike."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["bar_chart", "stacked_bar"]

_INK: Final = "#010203"  # replaced by the page's text colour
ACCENT: Final = "#2a78d6"
PALETTE: Final = ("#2a78d6", "#1baf7a", "#eda100", "#8f8b84")
"""Blue, green, amber, grey: told apart with deuteranopia and protanopia, each 3:1 on white and on black."""
WIDTH_INCHES: Final = 6.4
BAR_INCHES: Final = 0.29
LETTER_INCHES: Final = 0.082
LONGEST_NAME: Final = 42
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def _svg(figure: Figure, label: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", text)
    name = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)


def _bare(axes: Axes) -> None:
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)


def shorten(name: str) -> str:
    """A name that fits beside its bar; the table below holds it whole."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1].rstrip()}…"


def bar_chart(values: Mapping[str, float], label: str, texts: Sequence[str] | None = None) -> str:
    """Horizontal bars, the first on top, with a text at the end of each.

    Parameters
    ----------
    values : mapping
        Length of each bar.
    label : str
        What the plot shows, for those who do not see it.
    texts : sequence of str, optional
        Text at each bar; by default its value.
    """
    texts = texts if texts is not None else [f"{value:,.0f}" for value in values.values()]
    with mpl.rc_context({**_STYLE, "svg.hashsalt": label}):
        # Fixed inches a row and a label column as wide as its longest name: every chart has the same bars.
        height = BAR_INCHES * max(1, len(values)) + 0.06
        names = [shorten(name) for name in values]
        left = 0.15 + LETTER_INCHES * max(map(len, names), default=0)
        figure = Figure(figsize=(WIDTH_INCHES, height))
        axes = figure.add_axes((left / WIDTH_INCHES, 0.0, 1 - left / WIDTH_INCHES, 1.0))
        positions = range(len(values))
        axes.barh(positions, list(values.values()), color=ACCENT, height=0.68)
        axes.set_yticks(positions, names)
        axes.set_xticks([])
        largest = max(values.values(), default=1) or 1
        axes.set_xlim(0, largest * 1.25)
        axes.set_ylim(max(1, len(values)) - 0.5, -0.5)
        for position, value, text in zip(positions, values.values(), texts, strict=True):
            axes.text(value + largest * 0.012, position, text, va="center")
        _bare(axes)
        return _svg(figure, label)


def stacked_bar(values: Mapping[str, float], label: str) -> str:
    """One bar cut into shares, with a legend that names each and its value."""
    total = sum(values.values()) or 1
    with mpl.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=(WIDTH_INCHES, 0.75))
        axes = figure.add_axes((0.0, 0.45, 1.0, 0.55))
        left = 0.0
        for (name, value), colour in zip(values.items(), PALETTE, strict=False):
            axes.barh(
                0,
                value,
                left=left,
                color=colour,
                height=0.6,
                label=f"{name} {value:,.0f} ({value / total:.0%})",
            )
            left += value
        axes.set_xlim(0, total)
        axes.set_axis_off()
        axes.legend(
            loc="upper left", bbox_to_anchor=(0, 0), borderaxespad=0.3, borderpad=0,
            ncols=max(1, len(values)), frameon=False, handlelength=1, handleheight=1,
        )  # fmt: skip
        return _svg(figure, label)
