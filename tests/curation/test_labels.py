"""The scope rules: which of a caption's labels reach a frame."""

import pytest

from usds.curation.corrections import Correction
from usds.curation.labels import CaptionLabels, apply_corrections, frame_labels
from usds.taxonomy.udt import load_taxonomy

UDT = load_taxonomy("udt")
ABDOMEN = ("body_system", "Abdomen and retroperitoneum")
NECK = ("body_system", "Head and Neck")
LIVER, SPLEEN, THYROID = ("organ", "Liver"), ("organ", "Spleen"), ("organ", "Thyroid gland")
CYST, MASS = ("diagnosis", "cyst"), ("diagnosis", "mass")
ROUND, OVAL = ("shape", "round"), ("shape", "oval")


def caption(scope, *present, no=(), maybe=(), name=None, **more):
    return CaptionLabels(
        name or f"{scope}-{present}", scope, more.pop("text", "text"), more.pop("origin", "sidecar"),
        dict.fromkeys(present, 0.9), dict.fromkeys(no, 0.9), dict.fromkeys(maybe, 0.9), **more,
    )  # fmt: skip


def labels(*captions, **more):
    return frame_labels(UDT, captions, **more)


def test_the_narrowest_scope_that_fills_a_dimension_wins():
    found = labels(caption("frame", ROUND), caption("clip", OVAL, LIVER, CYST), caption("study", SPLEEN))
    assert set(found.present) == {ROUND, LIVER, CYST}


def test_what_a_study_says_of_a_lesion_is_never_copied():
    found = labels(caption("study", LIVER, ABDOMEN, MASS, ROUND, no=[CYST], maybe=[OVAL]))
    assert set(found.present) == {LIVER, ABDOMEN}
    assert (found.negated, found.uncertain) == ({}, {})


@pytest.mark.parametrize(
    "study", [[(LIVER, SPLEEN, ABDOMEN)], [(LIVER, ABDOMEN), (SPLEEN, ABDOMEN)], [(ABDOMEN,)]]
)
def test_a_study_that_does_not_name_exactly_one_organ_names_none(study):
    assert labels(*(caption("study", *present) for present in study)).present == {}


def test_a_narrower_denial_or_doubt_keeps_a_wider_label_out():
    found = labels(caption("frame", no=[CYST], maybe=[ROUND]), caption("clip", CYST, MASS, ROUND))
    assert set(found.present) == {MASS}
    assert (set(found.negated), set(found.uncertain)) == ({CYST}, {ROUND})


def test_a_contradiction_within_a_scope_is_uncertain_and_in_conflict():
    found = labels(caption("clip", CYST), caption("clip", no=[CYST]))
    assert found.conflict
    assert found.present == {}
    assert set(found.uncertain) == {CYST}


def test_captions_of_one_scope_that_fill_a_dimension_differently_conflict():
    assert labels(caption("frame", OVAL), caption("frame", ROUND)).conflict
    assert not labels(caption("frame", OVAL), caption("frame", OVAL, ROUND)).conflict
    assert not labels(caption("frame", OVAL), caption("clip", ROUND)).conflict


def test_a_header_fills_only_an_empty_organ():
    header = {THYROID: 0.5, NECK: 0.5}
    assert set(labels(caption("frame", LIVER, ABDOMEN), header=header).present) == {LIVER, ABDOMEN}
    assert set(labels(caption("frame", CYST), header=header).present) == {THYROID, NECK, CYST}
    assert set(labels(caption("frame", NECK), header=header).present) == {THYROID, NECK}


def test_a_header_against_the_system_of_the_caption_is_a_conflict_and_fills_nothing():
    found = labels(caption("frame", ABDOMEN), header={THYROID: 0.5, NECK: 0.5})
    assert found.conflict
    assert set(found.present) == {ABDOMEN}


def test_a_header_that_names_two_organs_fills_none():
    assert labels(header={LIVER: 0.5, SPLEEN: 0.5, ABDOMEN: 0.5}).present == {}


def test_the_caption_to_train_on_is_the_narrowest_but_not_words_off_the_picture():
    overlay = caption("frame", LIVER, origin="overlay", name="overlay")
    clip = caption("clip", LIVER, name="clip")
    silent = caption("frame", abstained="not english", name="silent")
    assert labels(overlay, clip, silent).caption_id == "clip"
    assert labels(overlay, silent).caption_id == "overlay"
    assert labels(silent).caption_id is None


def test_a_frame_abstains_when_all_its_captions_do():
    one = caption("frame", abstained="garbage")
    assert labels(one, caption("clip", abstained="not english")).abstained == "garbage"
    assert labels(one, caption("clip")).abstained is None
    assert labels(one, header={LIVER: 0.5}).abstained is None


def test_confidence_is_that_of_the_weakest_label():
    assert labels(caption("frame", CYST), header={LIVER: 0.5, ABDOMEN: 0.5}).confidence == 0.5
    assert labels().confidence == 0.0


def test_corrections_of_a_target_win_and_end_its_conflict():
    corrections = [
        Correction("f", None, *OVAL, "remove", "present"), Correction("f", None, *LIVER, "add", "present"),
    ]  # fmt: skip
    found = labels(caption("frame", OVAL), caption("frame", ROUND), corrections=corrections)
    assert set(found.present) == {ROUND, LIVER, ABDOMEN}
    assert not found.conflict


def test_a_corrected_caption_no_longer_abstains_and_a_moved_label_leaves_its_group():
    wrong = caption("frame", CYST, abstained="garbage", conflict=True)
    fixed = apply_corrections(UDT, wrong, [Correction("f", "c", *CYST, "add", "negated")])
    assert (fixed.present, set(fixed.negated)) == ({}, {CYST})
    assert (fixed.abstained, fixed.conflict) == (None, False)


def test_corrections_about_labels_of_another_taxonomy_are_passed_over():
    before = caption("frame", CYST)
    after = apply_corrections(UDT, before, [Correction("f", "c", "organ", "Dragon", "add", "present")])
    assert after.present == before.present
