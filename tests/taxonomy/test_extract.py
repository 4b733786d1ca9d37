from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usds.taxonomy.assertion import Sweep
from usds.taxonomy.context import Context
from usds.taxonomy.extract import Extractor, explain
from usds.taxonomy.normalise import normalise, tokenise
from usds.taxonomy.source import parse_source
from usds.taxonomy.udt import build_taxonomy, load_taxonomy

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data/extraction_cases.jsonl").open(encoding="utf-8")
]
EXTRACTOR = Extractor(load_taxonomy("udt"))


def sets(labels):
    return {name: sorted(names) for name, names in labels.items()}


@pytest.mark.parametrize("case", CASES, ids=[f"{c['id']}-{c['group']}" for c in CASES])
def test_sentence(case):
    found = EXTRACTOR.extract(case["text"])
    assert found.abstained == case["abstained"]
    assert sets(found.present) == sets(case["expected"])
    assert sets(found.negated) == sets(case["negated"])
    assert sets(found.uncertain) == sets(case["uncertain"])


def test_there_are_at_least_300_sentences():
    assert len(CASES) >= 300


def test_evidence_points_at_the_given_text(extractor):
    text = "ﬁrst look – “hypoechoic” nodule\u00a0of the thyroid"
    found = extractor.extract(text)
    surfaces = {row.label: text[row.start : row.end] for row in found.evidence}
    assert surfaces["hypoechoic"] == "hypoechoic"
    assert surfaces["nodule"] == "nodule"
    assert surfaces["Thyroid gland"] == "thyroid"


def test_evidence_names_rule_method_and_cue(extractor):
    text = "No calcification in the nodule."
    row = next(e for e in extractor.extract(text).evidence if e.label == "calcifications")
    assert (row.assertion, row.method, row.surface) == ("negated", "exact", "calcification")
    assert row.rule_id == "internal_characteristics/calcifications/synonyms"
    assert row.cue is not None
    assert text[row.cue[0] : row.cue[1]] == "No"
    assert 0 < row.confidence < 1


def test_landmark_stays_as_evidence_only(extractor):
    found = extractor.extract("Hypoechoic mass adjacent to the liver.")
    assert "organ" not in found.present
    assert [(e.label, e.assertion) for e in found.evidence if e.dimension == "organ"] == [("Liver", "other")]


def test_header_age_makes_it_pediatric(extractor):
    assert extractor.extract("Liver.", pediatric=True).present["organ"] == (
        "Pediatric abdomen and retroperitoneum",
    )


def test_extraction_is_repeatable_and_survives_pickling(extractor):
    other = pickle.loads(pickle.dumps(extractor))
    for case in CASES[:60]:
        assert (
            extractor.extract(case["text"]) == other.extract(case["text"]) == extractor.extract(case["text"])
        )


def test_conflict_is_reported(extractor):
    assert extractor.extract("The first nodule is calcified. The second has no calcification.").conflict


def test_explain_gives_spans_in_reading_order(extractor):
    text = "Hypoechoic nodule without calcification."
    spans = explain(extractor.extract(text), text)
    assert [(text[s.start : s.end], s.assertion) for s in spans] == [
        ("Hypoechoic", "present"),
        ("nodule", "present"),
        ("calcification", "negated"),
    ]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_survived_with_valid_offsets(text):
    for row in EXTRACTOR.extract(text).evidence:
        assert 0 <= row.start <= row.end <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        "liver\x00cyst",
        "\ud800 hypoechoic nodule of the liver \udfff",
        "الكبد liver cyst",
        "e" + "\u0301" * 5000,
        "\n\n\n",
    ],
    ids=["nul", "surrogates", "rtl", "marks", "blank"],
)
def test_odd_text_is_survived(extractor, text):
    extractor.extract(text)


@pytest.mark.parametrize(
    "age",
    [
        *("an 8-year-old", "an 8 yo", "an 8 y/o", "an 8yr old", "aged 8", "age of 8", "(age: 8)"),
        *("a three-year-old", "a 3-month-old", "a two week old", "an 8 years of age", "5 days of life"),
        *("an 8yearold", "a 3-monthsold", "an 8yo", "an 8 year-o"),
    ],
)
def test_every_way_to_write_an_age_is_looked_at(extractor, age):
    """The words without which no age is looked for must not hide one."""
    context = Context("", tokenise(normalise(f"Ultrasound of the kidney, {age} patient.")))
    assert not extractor.triggers.isdisjoint(context.tokens.words)
    assert extractor.age.judge(f"ultrasound of the kidney, {age} patient.", context)[0]


def test_surrogates_do_not_move_offsets(extractor):
    text = "\ud800\ud800 hypoechoic nodule of the liver"
    row = next(e for e in extractor.extract(text).evidence if e.label == "hypoechoic")
    assert text[row.start : row.end] == "hypoechoic"


def test_work_grows_in_proportion_to_the_text(extractor, monkeypatch):
    """Counts phrases handled, not seconds: twice the text, twice the work."""
    from usds.taxonomy import assertion

    counts = []
    run = assertion.Sweep.run

    def counting(self):
        counts.append(len(self.hits))
        return run(self)

    monkeypatch.setattr(assertion.Sweep, "run", counting)
    sentence = "No mass, cyst or collection in the liver. Hypoechoic nodule with smooth margins. "
    extractor.extract(sentence * 50)
    extractor.extract(sentence * 100)
    assert counts[1] == 2 * counts[0]


def test_conditions_are_looked_up_once_in_a_caption(monkeypatch):
    """A condition that fails would otherwise read the whole text again at every place that asks for it."""
    from usds.taxonomy import context as module

    asked = []
    needle = module._needle
    monkeypatch.setattr(module, "_needle", lambda phrase: asked.append(phrase) or needle(phrase))
    normal = normalise("Smooth margins of the nodule. " * 50)
    context = module.Context(normal.text, tokenise(normal))
    for _ in range(20):
        assert context.has("smooth margins")
        assert not context.has("blunt edges")
    assert asked == ["smooth margins", "blunt edges"]


def test_evidence_is_the_same_whenever_it_is_asked_for(extractor):
    text = "Hypoechoic nodule without calcification. Cannot exclude carcinoma."
    first, second = extractor.extract(text), extractor.extract(text)
    assert first == second
    assert pickle.loads(pickle.dumps(first)) == second
    assert first.evidence is first.evidence
    assert first != extractor.extract("Liver cyst.")


@pytest.mark.slow
def test_ten_megabytes_are_survived(extractor):
    text = "Hypoechoic nodule of the thyroid without calcification. " * 180_000
    found = extractor.extract(text)
    assert found.present["diagnosis"] == ("nodule",)
    assert found.evidence[-1].end <= len(text)


TONGUE = """      - name: Tongue
        parent: Head and Neck
        synonyms:
          - lingua
"""
STIFFNESS = """dimensions:
  - name: stiffness
    title: Stiffness
    labels:
      - name: stiff
        synonyms:
          - rigid
"""


def edited(replacements):
    text = load_taxonomy("udt").source_text
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new, 1)
    return Extractor(build_taxonomy(parse_source(text, "mine.yaml")))


def test_a_new_organ_needs_no_code():
    mine = edited([("      - name: Liver\n", TONGUE + "      - name: Liver\n")])
    assert mine.extract("Hypoechoic mass of the lingua.").present["organ"] == ("Tongue",)
    assert mine.extract("Hypoechoic mass of the lingua.").present["body_system"] == ("Head and Neck",)


def test_a_new_dimension_needs_no_code():
    mine = edited([("dimensions:\n", STIFFNESS)])
    assert mine.extract("A rigid nodule on ultrasound.").present["stiffness"] == ("stiff",)


def test_a_taxonomy_without_pediatrics_works():
    import yaml

    data = yaml.safe_load(load_taxonomy("udt").source_text)
    for dimension in data["dimensions"]:
        gone = "Pediatrics"
        dimension["labels"] = [
            label for label in dimension["labels"] if label["name"] != gone and label.get("parent") != gone
        ]
    mine = Extractor(build_taxonomy(parse_source(yaml.safe_dump(data, sort_keys=False), "mine.yaml")))
    assert mine.extract("Liver cyst in a 3-year-old girl.").present["organ"] == ("Liver",)


@pytest.mark.parametrize("text", ["cyst versus ", "an abscess can mimic "])
def test_a_look_back_is_bounded_in_a_text_without_an_end(extractor, monkeypatch, text):
    seen = 0
    behind = Sweep.behind

    def count(sweep):
        nonlocal seen
        found = behind(sweep)
        seen += len(found)
        return found

    monkeypatch.setattr(Sweep, "behind", count)
    extractor.extract(text * 1000)
    assert 1000 < seen < 200_000, "mentions looked at; half a million where every cue looks at all before it"


def test_one_doubt_repeated_without_end_is_read(extractor):
    """A million characters in about a second; comparing every doubted site with every finding takes hours."""
    found = extractor.extract("suggest liver cyst, " * 50_000)
    assert found.present == {"body_system": ("Abdomen and retroperitoneum",), "organ": ("Liver",)}
    assert found.uncertain == {"diagnosis": ("cyst",)}
