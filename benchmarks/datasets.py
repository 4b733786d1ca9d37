"""Parts of datasets that benchmarks write themselves, without ingest."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from usds.schemas import tables
from usds.schemas.annotations import AnnotationSet
from usds.schemas.dataset import Dataset
from usds.taxonomy.udt import Taxonomy


def frame_row(**values: Any) -> dict[str, Any]:
    """A row of the frames table: the given values, and blanks where a column must not be empty."""
    blank = {column.name: _blank(column.type) for column in tables.FRAMES if not column.nullable}
    return {**blank, **values}


def _blank(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return []
    if pa.types.is_string(kind):
        return ""
    return False if pa.types.is_boolean(kind) else 0


def write_labels(dataset: Dataset, taxonomy: Taxonomy, rows: list[dict[str, Any]]) -> None:
    """Write rows of labels as the current annotation set of the dataset."""
    sets, name = dataset.annotations, taxonomy.set_name
    sets.write_taxonomy(name, taxonomy.source_text)
    table = pa.Table.from_pylist(rows, schema=tables.annotation_schema(taxonomy.dimension_names))
    entry = sets.write_task(name, "all", "0" * 12, table, tables.EVIDENCE.empty_table())
    sets.commit(
        AnnotationSet(name, taxonomy.id, taxonomy.content_hash, taxonomy.dimension_names, {"all": entry})
    )
    sets.set_current(name)
