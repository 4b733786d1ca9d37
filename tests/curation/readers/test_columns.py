"""What a column holds is told by its name, however it is written, and by what the user maps."""

from __future__ import annotations

import pytest

from usds.curation.readers.columns import ColumnRoles, role_of


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Patient ID", "subject"),
        ("patient_or_case_id", "subject"),
        ("Subject-Code", "subject"),
        ("patient.name", "name"),
        ("exam.Referring Physician", "staff"),
        ("Nächster", None),
        ("PRÉNOM", "name"),
        ("tumour_grade", None),
    ],
)
def test_a_role_is_known_by_the_folded_name(name: str, role: str | None) -> None:
    assert role_of(name) == role


def test_a_mapped_role_belongs_to_its_columns_alone() -> None:
    roles = ColumnRoles({"caption": "befund_text+notes"})
    assert [roles.of(name) for name in ("Befund Text", "notes", "caption", "image")] == [
        "caption",
        "caption",
        None,
        "image",
    ]
