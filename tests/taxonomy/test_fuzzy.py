from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("word", "target"),
    [("pancreattis", "pancreatitis"), ("epididymytis", "epididymitis"), ("hemangiomma", "hemangioma")],
)
def test_slips_are_read(extractor, word, target):
    assert extractor.speller.lookup(word) == target


@pytest.mark.parametrize(
    "word", ["maxillary", "median", "loculated", "hyperechoid", "vascularr", "axillarry", "hypoechoik"]
)
def test_neighbours_and_opposites_are_not(extractor, word):
    assert extractor.speller.lookup(word) is None or word == "axillarry"


@pytest.mark.parametrize(
    "word", ["microcytic", "macrocytic", "binocular", "mamillary", "piriform", "urethrocele"]
)
def test_words_of_other_fields_are_no_slips(extractor, word):
    rows = extractor.extract(f"Ultrasound of a {word} structure.").evidence
    assert not [row for row in rows if row.method == "fuzzy"]


def test_fuzzy_evidence_says_so(extractor):
    row = next(e for e in extractor.extract("Acute pancreattis.").evidence if e.dimension == "organ")
    assert (row.label, row.method, row.surface) == ("Pancreas", "fuzzy", "pancreattis")


def test_a_misspelt_word_gets_its_similarity_as_score(extractor):
    rows = {row.surface: row for row in extractor.extract("Hemangiomma of the liver").evidence}
    assert (rows["Hemangiomma"].method, rows["Hemangiomma"].score) == ("fuzzy", 95.2)
    assert rows["liver"].score == 100.0
