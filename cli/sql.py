"""`usds sql`: one statement over the tables, read-only, with nothing else on the disk in reach."""

from __future__ import annotations

import csv
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usds.cli.console import DEFAULT_DATASET, DatasetOption, JsonOption, Output
from usds.schemas.errors import UsageError

if TYPE_CHECKING:
    import duckdb

__all__ = ["register"]

ALLOWED = ("SELECT", "EXPLAIN", "DESCRIBE")
CHUNK = 1024
_EXPLAIN = re.compile(r"^\s*EXPLAIN\s+(ANALYZE\s+|\([^)]*\)\s*)?", re.IGNORECASE)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "sql",
        epilog='Example:  usds sql "SELECT organ, count(*) FROM annotations GROUP BY ALL ORDER BY 2 DESC"',
    )(sql)


def sql(
    statement: Annotated[str, typer.Argument(help="One SELECT, EXPLAIN or DESCRIBE.", metavar="SELECT")],
    dataset: DatasetOption = DEFAULT_DATASET,
    set_name: Annotated[
        str | None, typer.Option("--set", help="Annotation set behind the view `annotations`.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    json: JsonOption = False,
) -> None:
    """Ask the dataset in SQL.

    Views: frames, captions, sources, splits; after `usds annotate` also annotations, evidence,
    annotations_all and evidence_all. Pixels are not among them: `usds show FRAME --save F` writes one frame.
    """
    import duckdb

    from usds.schemas.dataset import Dataset

    with Dataset.open(dataset).connect(set_name) as connection:
        check_statement(connection, statement)
        try:
            cursor = connection.execute(statement)
            names = [column[0] for column in cursor.description or ()]
            _render(cursor, names, Output(json), as_csv=as_csv)
        except duckdb.Error as error:
            raise UsageError(f"SQL: {error}") from error


def check_statement(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Refuse anything but exactly one SELECT, EXPLAIN or DESCRIBE.

    Raises
    ------
    UsageError
        If it does not parse, or is something else.
    """
    import duckdb

    try:
        statements = connection.extract_statements(statement)
    except duckdb.Error as error:
        raise UsageError(f"SQL: {error}") from error
    if len(statements) != 1:
        raise UsageError(f"SQL: expected one statement, got {len(statements)}")
    kind = statements[0].type.name
    # DuckDB files DESCRIBE and SHOW under SELECT; VALUES and FROM-first queries are SELECT as well. EXPLAIN
    # ANALYZE of a writing statement would run it, so the statement behind EXPLAIN is looked at too.
    if kind == "EXPLAIN":
        check_statement(connection, _EXPLAIN.sub("", statement, count=1))
        return
    if kind not in ALLOWED:
        raise UsageError(f"SQL: only SELECT, EXPLAIN and DESCRIBE are allowed, not {kind}")


def _render(cursor: duckdb.DuckDBPyConnection, names: list[str], output: Output, *, as_csv: bool) -> None:
    if output.json:
        rows = cursor.fetchall()
        output.data([dict(zip(names, map(_plain, row), strict=True)) for row in rows])
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        while chunk := cursor.fetchmany(CHUNK):
            writer.writerows(chunk)
    else:
        from rich import box
        from rich.table import Table

        table = Table(*names, box=box.SIMPLE_HEAD)
        count = 0
        while chunk := cursor.fetchmany(CHUNK):
            count += len(chunk)
            for row in chunk:
                table.add_row(*("" if value is None else _cell(value) for value in row))
        output.show(table)
        output.note(f"{count} row{'s' if count != 1 else ''}")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        items: list[Any] = value
        return ", ".join(map(str, items))
    return str(value)


def _plain(value: Any) -> Any:
    """Values that JSON has no form for (dates, decimals, blobs) as text."""
    plain = (str, int, float, bool, list, dict, type(None))
    return value if isinstance(value, plain) else str(value)
