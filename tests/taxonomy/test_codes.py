from __future__ import annotations

from usds.taxonomy.codes import header_labels
from usds.taxonomy.udt import Code


def test_anatomic_region_gives_the_organ(udt):
    code = Code("SCT", "10200004", "Liver")
    assert header_labels(udt, [code], None) == (("organ", "Liver", code),)


def test_retired_snomed_value_gives_the_same_organ(udt):
    code = Code("SRT", "T-71000", "Kidney")
    assert header_labels(udt, [code], None) == (("organ", "Kidney and ureter", code),)


def test_body_part_is_read_without_case_and_spaces(udt):
    assert header_labels(udt, [], " Breast ") == (("organ", "Breast", None),)


def test_unknown_code_and_part_give_nothing(udt):
    assert header_labels(udt, [Code("99LOCAL", "1", "x")], "ROBOT") == ()
