from __future__ import annotations

import json

import pytest

from usds.schemas.errors import ContentError
from usds.taxonomy.evaluate import evaluate, method_precision, read_gold


def gold(tmp_path, *records):
    path = tmp_path / "gold.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


RIGHT = {
    "id": "r",
    "text": "Liver cyst without calcification.",
    "expected": {"organ": ["Liver"], "body_system": ["Abdomen and retroperitoneum"], "diagnosis": ["cyst"]},
    "negated": {"internal_characteristics": ["calcifications"]},
    "uncertain": {},
}
WRONG = {
    "id": "w",
    "text": "Renal mass.",
    "expected": {"organ": ["Liver"]},
    "negated": {"diagnosis": ["mass"]},
    "uncertain": {},
}
CT = {"id": "ct", "text": "CT of the liver.", "expected": {}, "negated": {}, "uncertain": {}, "abstain": True}


def test_figures_count_triples(extractor, tmp_path):
    result = evaluate(extractor, read_gold(gold(tmp_path, RIGHT, WRONG, CT)), resamples=50)
    assert (result.micro.tp, result.micro.fp, result.micro.fn) == (3, 3, 1)
    assert result.micro.f1 == pytest.approx(2 * 3 / (2 * 3 + 3 + 1))
    assert (result.dangerous, result.dangerous_of) == (1, 2)
    assert (result.abstained_right, result.abstained_of, result.abstained_wrong) == (1, 1, 0)
    assert result.worst[0]["id"] == "w"
    assert result.micro.low <= result.micro.f1 <= result.micro.high
    json.dumps(result.to_json(), allow_nan=False)


def test_macro_is_the_mean_over_dimensions_with_support(extractor, tmp_path):
    result = evaluate(extractor, read_gold(gold(tmp_path, RIGHT)), resamples=0)
    assert result.macro_f1 == 1.0
    assert result.to_json()["macro_low"] is None


def test_confidence_is_smoothed_precision(extractor, tmp_path):
    found = method_precision(extractor, read_gold(gold(tmp_path, RIGHT)))
    assert found["exact"] == {"confidence": round(5 / 6, 4), "n": 4}


def test_bad_gold_line_is_named(tmp_path):
    path = tmp_path / "gold.jsonl"
    path.write_text('{"id": 1}\n', encoding="utf-8")
    with pytest.raises(ContentError, match=r"gold\.jsonl, line 1: not a record"):
        read_gold(path)
