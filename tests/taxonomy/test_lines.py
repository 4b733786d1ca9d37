from __future__ import annotations

import json

from usds.taxonomy.lines import LineError, annotate_lines, labels_jsonl


def test_order_is_kept_and_bad_lines_are_numbered(extractor):
    lines = [
        '{"id": "a", "text": "Liver cyst."}',
        "not json",
        "",
        '{"id": "b"}',
        b'{"id": 3, "text": "No mass."}',
        "[1]",
    ]
    results = list(annotate_lines(extractor, lines))
    assert [r["id"] if isinstance(r, dict) else r.number for r in results] == ["a", 2, 4, 3, 6]
    assert str(results[2]) == "line 4: the key 'text' is missing"


def test_record_leaves_empty_dimensions_out(extractor):
    (record,) = annotate_lines(extractor, ['{"id": 1, "text": "Hypoechoic nodule without calcification."}'])
    assert record == {
        "id": 1,
        "expected": {"diagnosis": ["nodule"], "echogenicity": ["hypoechoic"]},
        "negated": {"internal_characteristics": ["calcifications"]},
        "uncertain": {},
        "abstained": None,
    }


def test_lone_surrogates_can_be_written(extractor):
    (line,) = labels_jsonl(extractor, ['{"id": "\\ud800", "text": "Liver \\ud800 cyst"}'])
    assert not isinstance(line, LineError)
    assert json.loads(line.encode("utf-8"))["id"] == "\ufffd"
