"""Open a taxonomy as the command line names it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usds.cli.console import Output

if TYPE_CHECKING:
    from usds.taxonomy.udt import Taxonomy

__all__ = ["TaxonomyOption", "open_taxonomy"]

TaxonomyOption = Annotated[
    str,
    typer.Option(
        "--taxonomy", help="A taxonomy file, or a bundled name (udt).", metavar="FILE", show_default="udt"
    ),
]


def open_taxonomy(name: str, output: Output) -> Taxonomy:
    """Load a taxonomy; say so where a file name means the bundled one.

    Raises
    ------
    TaxonomyError
        The file is missing or wrong; the message names file and line.
    """
    from usds.taxonomy.udt import load_taxonomy

    taxonomy = load_taxonomy(name)
    if name.endswith(".yaml") and not Path(name).exists():
        output.note(
            f"note: no file {name} here, so the bundled taxonomy {taxonomy.id} {taxonomy.version} is used; "
            f"`usds taxonomy show --yaml > {name}` copies it for editing"
        )
    return taxonomy
