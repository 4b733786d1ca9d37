"""``usds locate``: where a source file lies."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from usds.cli import console
from usds.cli.console import DatasetOption, JsonOption

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("locate", epilog="Example:  usds locate 7q3k5m...")(locate)


def locate(
    key: Annotated[
        str, typer.Argument(help="Source key, or the id of a subject, study, clip or frame.", metavar="KEY")
    ],
    dataset: DatasetOption = console.DEFAULT_DATASET,
    json: JsonOption = False,
) -> int:
    """Where the raw files behind a key lie; reads the private state.

    The answer holds paths, which may name people: do not paste it into a report.
    """
    from usds.curation.locate import locate as find
    from usds.schemas.dataset import Dataset
    from usds.schemas.state import State

    opened = Dataset.open(dataset)
    state = State.open(opened.info.dataset_id, opened.info.key_fingerprint)
    found = find(opened, state, key)
    output = console.Output(json)
    output.data([asdict(location) for location in found])
    for location in found:
        gone = "" if location.exists else "  (no longer there)"
        output.show(f"{location.source_key}  {location.kind}  {location.reason}  {location.path}{gone}")
    return 0
