"""`usds show FRAME`: facts, captions, labels and evidence of one frame, and its picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usds.cli.console import DEFAULT_DATASET, DatasetOption, JsonOption, Output
from usds.schemas.errors import UsageError

if TYPE_CHECKING:
    import duckdb

__all__ = ["register"]

_FACTS = (
    "clip_id", "study_id", "subject_id", "subject_rule", "source_key", "frame_index", "media", "rows", "cols",
    "mode", "vendor", "model_family", "transducer", "body_part", "sex", "age_band", "quality", "duplicate_of",
    "redacted_fraction", "verified_by",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show", epilog="Example:  usds show mzxw6ytboi5dsmrq --save frame.jpg")(show)


def show(
    frame: Annotated[str, typer.Argument(help="Frame id, or the first characters of one.", metavar="FRAME")],
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    save: Annotated[Path | None, typer.Option("--save", help="Write the picture to this file.")] = None,
    set_name: Annotated[str | None, typer.Option("--set", help="Annotation set to show.")] = None,
    json: JsonOption = False,
) -> None:
    """Show what the dataset knows about one frame."""
    from usds.schemas.dataset import Dataset
    from usds.schemas.files import atomic_path

    output = Output(json)
    opened = Dataset.open(dataset)
    with opened.connect(set_name) as connection:
        row = _find(connection, frame)
        row["captions"] = _captions(connection, row)
        if set_name or opened.annotations.current():
            row["labels"] = _one(connection, "annotations", row["frame_id"])
            row["evidence"] = _evidence(connection, row)
    image = opened.read_pixels([row["frame_id"]])[row["frame_id"]]
    if save is not None:
        with atomic_path(save) as partial:
            partial.write_bytes(image)
    output.data({**row, "image_bytes": len(image), "saved": str(save) if save else None})
    for renderable in _render(row):
        output.show(renderable)
    if save is not None:
        output.show(f"picture: {save} ({len(image):,} bytes)")


def _query(connection: duckdb.DuckDBPyConnection, sql: str, *values: Any) -> list[dict[str, Any]]:
    cursor = connection.execute(sql, list(values))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _find(connection: duckdb.DuckDBPyConnection, frame: str) -> dict[str, Any]:
    found = _query(
        connection, "SELECT * FROM frames WHERE starts_with(frame_id, ?) ORDER BY frame_id LIMIT 2", frame
    )
    if not found:
        raise UsageError(f'no frame {frame!r}; `usds sql "SELECT frame_id FROM frames LIMIT 5"` lists some')
    if len(found) > 1 and found[0]["frame_id"] != frame:
        raise UsageError(f"{frame!r} is the beginning of several frame ids: type more of it")
    return found[0]


def _captions(connection: duckdb.DuckDBPyConnection, row: dict[str, Any]) -> list[dict[str, Any]]:
    ids = [row[name] for name in ("frame_id", "clip_id", "study_id")]
    return _query(
        connection,
        "SELECT caption_id, scope, origin, section, text FROM captions WHERE target_id IN (?, ?, ?) "
        "ORDER BY list_position(['frame', 'clip', 'study'], scope), caption_id",
        *ids,
    )


def _one(connection: duckdb.DuckDBPyConnection, table: str, frame_id: str) -> dict[str, Any]:
    rows = _query(connection, f"SELECT * FROM {table} WHERE frame_id = ?", frame_id)
    return rows[0] if rows else {}


def _evidence(connection: duckdb.DuckDBPyConnection, row: dict[str, Any]) -> list[dict[str, Any]]:
    ids = [caption["caption_id"] for caption in row["captions"]]
    return _query(
        connection,
        "SELECT * FROM evidence WHERE list_contains(?, caption_id) OR "
        "(caption_id IS NULL AND target_id = ?) ORDER BY caption_id, start",
        ids,
        row["frame_id"],
    )


def _render(row: dict[str, Any]) -> list[Any]:
    from rich.table import Table
    from rich.text import Text

    facts = Table(title=Text(f"frame {row['frame_id']}"), title_justify="left", box=None, show_header=False)
    for name in _FACTS:
        if row[name] is not None:
            facts.add_row(name.replace("_", " "), Text(str(row[name])))
    parts: list[Any] = [facts]
    for caption in row["captions"]:
        text = Text(f"\n{caption['scope']} caption ({caption['origin']})\n", style="bold")
        parts.append(text.append(Text(caption["text"], style="not bold")))
    labels = {
        k: v for k, v in row.get("labels", {}).items() if v and k not in ("frame_id", "source_caption_ids")
    }
    if labels:
        table = Table(title="\nlabels", title_justify="left", box=None, show_header=False)
        for name, value in labels.items():
            table.add_row(name.replace("_", " "), Text(_words(value)))
        parts.append(table)
    return parts


def _words(value: Any) -> str:
    if isinstance(value, list):
        items: list[Any] = value
        return ", ".join(f"{i['label']} ({i['dimension']})" if isinstance(i, dict) else str(i) for i in items)
    return str(value)
