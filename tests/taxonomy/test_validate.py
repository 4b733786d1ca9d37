from __future__ import annotations

import json
import re
from importlib import resources
from itertools import combinations

import pytest
from rapidfuzz.distance import OSA

from usds.taxonomy.udt import load_taxonomy
from usds.taxonomy.validate import json_schema, validate_taxonomy


def messages(tmp_path, *replacements):
    text = load_taxonomy("udt").source_text
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return validate_taxonomy(path)


def test_bundled_taxonomy_has_no_errors_and_only_known_codes():
    findings = validate_taxonomy("udt")
    assert not [
        f for f in findings if f.level == "error" or "context group" in f.text or "stands for" in f.text
    ]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("SCT 10200004 Liver", "SCT 99999999999 Liver", "no DICOM context group holds SCT 99999999999"),
        (
            "          - spleen[s]\n",
            "          - spleen[s]\n          - hepatic\n",
            "'hepatic' stands for 'Liver' and for 'Spleen'",
        ),
        (
            "          - spleen[s]\n",
            "          - spleen[s]\n          - pancreatis\n          - maxillarys\n",
            "one slip apart",
        ),
        ("pediatric: Pediatric scrotum", "pediatric: Nowhere", "unknown pediatric counterpart 'Nowhere'"),
        (
            "    keep:\n      - Uterus\n",
            "    keep:\n      - Womb\n",
            "site rule 'fetal' names the unknown label 'Womb'",
        ),
        ("    system: Gynaecology\n", "    system: Obstetrics\n", "names the unknown system 'Obstetrics'"),
        (
            "also: {organ: Peripheral arteries}",
            "also: {organ: Arteries}",
            "also states the unknown label 'Arteries'",
        ),
        (
            "  system: Pediatrics\n",
            "  system: Children\n",
            "pediatric override names the unknown label 'Children'",
        ),
        ("    - Infant hip and knee\n", "    - Infant hips\n", "names the unknown label 'Infant hips'"),
    ],
    ids=["code", "shared", "neighbour", "counterpart", "keep", "system", "also", "override", "infant"],
)
def test_warning_names_the_line(tmp_path, old, new, text):
    found = [f for f in messages(tmp_path, (old, new)) if text in f.text]
    assert found
    assert found[0].level == "warning"
    assert found[0].line is not None


def test_error_is_reported_once(tmp_path):
    findings = messages(tmp_path, ("id: udt", "id: 7"))
    assert [(f.level, f.line is not None) for f in findings] == [("error", True)]


def test_shipped_schema_is_current():
    shipped = (resources.files("usds.schemas") / "udt.schema.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == json.loads(json_schema())


def test_every_pair_of_words_one_slip_apart_is_named(tmp_path):
    """Letters lost, added, changed and swapped, against a comparison of every word with every other."""
    slips = [
        "calcaneus",
        "calcanes",
        "calcaneuss",
        "calcaneos",
        "calcanesu",
        "alcaneus",
        "calcnaesu",
        "kalcaneus",
    ]
    labels = "\n".join(f"      - name: {word}" for word in slips)
    path = tmp_path / "mine.yaml"
    path.write_text(
        "id: mine\nversion: '1'\ntitle: Mine\ndimensions:\n  - name: site\n    title: Site\n    role: site\n"
        f"    fuzzy: true\n    prompts: ['{{label}}']\n    labels:\n{labels}\n",
        encoding="utf-8",
    )
    found = {frozenset(re.findall(r"'(\w+)'", f.text)) for f in validate_taxonomy(path)}
    expected = {
        frozenset(pair)
        for pair in combinations(slips, 2)
        if pair[0][0] == pair[1][0] and OSA.distance(*pair) == 1
    }
    assert len(expected) > 4
    assert found == expected
