"""Captions labelled by the written guidelines alone, before the rules were read: the extractor must keep up."""

from __future__ import annotations

from pathlib import Path

import pytest

from usds.taxonomy.evaluate import evaluate, read_gold

DATA = Path(__file__).parents[1] / "data"
SETS = [
    f"captions_heldout_{name}.jsonl"
    for name in ("a", "b", "c", "d", "negation", "assertion", "hard", "reports", "independent", "registers")
]
RECORDS = {name: read_gold(DATA / name) for name in SETS}


@pytest.mark.parametrize("name", SETS)
def test_scores_stay_above_what_unseen_captions_gave(extractor, name):
    found = evaluate(extractor, RECORDS[name], resamples=0)
    assert found.micro.f1 >= 0.97
    assert found.micro.precision >= 0.96
    assert found.macro_f1 >= 0.96
    assert found.negated.f1 >= 0.93
    assert found.uncertain.f1 >= 0.88
    assert found.dangerous <= 0.01 * found.dangerous_of


@pytest.mark.parametrize("name", SETS[:3])
def test_abstains_from_all_other_texts_and_from_no_ultrasound(extractor, name):
    found = evaluate(extractor, RECORDS[name], resamples=0)
    assert found.abstained_right == found.abstained_of > 10
    assert found.abstained_wrong == 0


def test_real_captions_stay_above_what_they_gave_unseen(extractor):
    found = evaluate(extractor, read_gold(DATA / "captions_real.jsonl"), resamples=0)
    assert found.micro.f1 >= 0.96
    assert found.micro.precision >= 0.95
    assert found.macro_f1 >= 0.97


def test_abstains_from_other_examinations_languages_and_noise(extractor):
    records = read_gold(DATA / "captions_heldout_other.jsonl")
    labelled = [r.text for r in records if extractor.extract(r.text).abstained is None]
    assert len(records) > 150
    assert len(labelled) <= 1, labelled


def test_every_organ_and_system_occurs_at_least_twice(udt):
    seen: dict[tuple[str, str], int] = {}
    for records in RECORDS.values():
        for record in records:
            for key in record.labels["present"]:
                seen[key] = seen.get(key, 0) + 1
    for dimension in udt.dimensions:
        least = 2 if dimension.role in ("site", "system") else 1
        for label in dimension.labels:
            assert seen.get((dimension.name, label.name), 0) >= least, label.name
