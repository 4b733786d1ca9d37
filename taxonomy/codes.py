"""Labels from coded anatomy and body parts of a DICOM header (PS3.3 C.7.2.2.1.1, PS3.16 CID 4)."""

from __future__ import annotations

from collections.abc import Iterable

from usds.taxonomy.udt import Code, Taxonomy

__all__ = ["header_labels"]

# Older SNOMED designators that DICOM files still carry for the same code values (PS3.16 section 8).
_SAME_SCHEME = {"SCT": "SCT", "SNM3": "SRT", "99SDM": "SRT", "SRT": "SRT", "DCM": "DCM"}


def header_labels(
    taxonomy: Taxonomy, codes: Iterable[Code], body_part: str | None
) -> tuple[tuple[str, str, Code | None], ...]:
    """Labels that the header of an image states.

    Parameters
    ----------
    taxonomy : Taxonomy
        Holds the codes and the Body Part Examined terms of its labels.
    codes : iterable of Code
        Items of AnatomicRegionSequence and its modifiers; `Code` or any object with scheme, value, meaning.
    body_part : str or None
        BodyPartExamined (0018,0015).

    Returns
    -------
    tuple of (dimension, label, code or None)
        Without repetition, in the order of the taxonomy; the code is None where the body part said it.
    """
    wanted = {(_SAME_SCHEME.get(code.scheme, code.scheme), code.value): code for code in codes}
    retired = {value: code for (scheme, value), code in wanted.items() if scheme == "SRT"}
    part = "".join(filter(str.isalnum, body_part or "")).upper()
    found: list[tuple[str, str, Code | None]] = []
    for dimension in taxonomy.dimensions:
        for label in dimension.labels:
            code = next(
                (wanted[c.scheme, c.value] for c in label.codes if (c.scheme, c.value) in wanted), None
            )
            if code is None and retired:
                code = next((retired[v] for c in label.codes if (v := _retired(c)) in retired), None)
            if code is not None or (part and part in label.body_parts):
                found.append((dimension.name, label.name, code))
    return tuple(found)


def _retired(code: Code) -> str:
    """The SNOMED-RT style value of a SNOMED CT code, or an empty string."""
    from pydicom.sr._snomed_dict import mapping

    return mapping["SCT"].get(code.value, "") if code.scheme == "SCT" else ""
