"""The tables' schemas: what each column is, and what a taxonomy may not call a dimension."""

import pyarrow as pa
import pytest

from usds.schemas import tables


def test_annotation_schema_has_one_list_of_labels_a_dimension():
    schema = tables.annotation_schema(("organ", "colour"))
    assert schema.field("organ").type == pa.list_(pa.string())
    assert schema.field("colour").type == pa.list_(pa.string())
    assert schema.names[:3] == ["frame_id", "organ", "colour"]
    assert {"negated", "uncertain", "abstained", "conflict"} <= set(schema.names)


@pytest.mark.parametrize("name", sorted(tables.RESERVED_COLUMNS))
def test_a_dimension_cannot_be_called_like_a_fixed_column(name):
    with pytest.raises(ValueError, match=f"dimension name '{name}' is reserved; rename it in the taxonomy"):
        tables.annotation_schema(("organ", name))


def test_reserved_columns_are_the_fixed_ones_of_the_schema():
    assert set(tables.annotation_schema(()).names) <= tables.RESERVED_COLUMNS


def test_pixels_stand_apart_from_everything_that_changes():
    assert tables.IMAGES.names == ["frame_id", "image"]
    assert "image" not in tables.FRAMES.names
    assert {"shard", "row_group", "row"} <= set(tables.FRAMES.names)


def test_outcomes_and_reasons_are_closed_lists():
    assert tables.OUTCOMES == ("ingested", "rejected", "quarantined", "review")
    assert len(set(tables.REASONS)) == len(tables.REASONS)
    assert tables.SPLIT_NAMES == ("train", "valid", "test", "excluded")
