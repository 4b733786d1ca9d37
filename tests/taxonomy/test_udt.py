from __future__ import annotations

import pytest

from usds.taxonomy.source import parse_source
from usds.taxonomy.udt import TaxonomyError, build_taxonomy, expand, load_taxonomy

SMALL = """id: mine
version: "1"
dimensions:
  - name: system
    title: System
    role: system
    labels:
      - name: Neck
  - name: site
    title: Site
    role: site
    parent_dimension: system
    labels:
      - name: Thyroid
        parent: Neck
"""


def build(text):
    return build_taxonomy(parse_source(text, "mine.yaml"))


def test_bundled_taxonomy_has_the_published_vocabularies(udt):
    assert udt.widths == (9, 52, 5, 7, 2, 5, 6, 2, 5)
    assert udt.vocabulary("vascularity")[2] == "no vascularity"
    assert udt.parent_of("organ", "Lymph nodes") == ("body_system", "Head and Neck")
    assert udt.parent_of("organ", "Skull") == ("body_system", "Musculoskeletal Joints and Tendons")


def test_bundled_taxonomy_has_at_least_1500_surface_forms(udt):
    assert len({form.text.lower() for _, _, form in udt.forms()}) >= 1500


def test_set_name_is_id_and_eight_digits_of_the_hash(udt):
    assert udt.set_name == f"udt-{udt.content_hash[:8]}"


def test_hash_depends_on_content_not_on_layout():
    spaced = SMALL.replace("title: Neck", "title:   Neck") + "\n# a comment\n"
    assert build(SMALL).content_hash == build(spaced).content_hash
    assert build(SMALL).content_hash != build(SMALL.replace("Thyroid", "Larynx")).content_hash


def test_prompts_name_the_label(udt):
    assert udt.prompts("organ", "Liver")[0] == "an ultrasound image of the liver"


def test_a_file_wins_over_the_bundled_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "udt.yaml").write_text(SMALL, encoding="utf-8")
    assert load_taxonomy("udt.yaml").id == "mine"
    assert load_taxonomy("udt").id == "udt"


def test_expand_nests():
    assert expand("{well|sharp[ly]} defined") == ["well defined", "sharp defined", "sharply defined"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id: mine", "id: [mine", r"mine\.yaml, line \d+: not valid YAML"),
        ('version: "1"', "version: 1", r"line 2: 'version' must be text, not the number 1: put it in quotes"),
        (
            "      - name: Neck",
            "      - name: Neck\n      - name: Neck",
            r"line 9: label 'Neck' stands twice",
        ),
        ("parent: Neck", "parent: Nekc", r"line 15: unknown parent 'Nekc'.*did you mean 'Neck'"),
        ("labels:\n      - name: Neck", "labels: []", r"line 7: 'labels' is empty"),
        ("title: Site", "tilte: Site", r"line 10: unknown key 'tilte'; did you mean 'title'"),
        (
            "      - name: Thyroid",
            "      - name: Thyroid\n        synonyms: ['{a|b']",
            r"line 15: bad surface form",
        ),
        (
            "    title: System\n",
            "    title: System\n    title: Again\n",
            r"line 6: the key 'title' stands twice",
        ),
    ],
    ids=["yaml", "type", "duplicate", "parent", "empty", "key", "form", "repeated-key"],
)
def test_bad_file_is_refused_with_its_line(old, new, message):
    assert old in SMALL
    with pytest.raises(TaxonomyError, match=message):
        build(SMALL.replace(old, new, 1))


ONE = """id: one
version: "1"
dimensions:
  - name: organ
    title: Organ
    role: site
    labels:
      - name: Liver
        synonyms: [liver]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("role: site", "role: place", r"line 6: 'role' is 'place': it should be 'system', 'site'"),
        ("[liver]", "liver", r"line 9: 'synonyms' must be a list, not 'liver': write \[liver\]"),
        ("[liver]", "[no]", r"line 9: 'synonyms' holds False.*put the word in quotes"),
        ("synonyms", "synonims", r"line 9: unknown key 'synonims'; did you mean 'synonyms'"),
        ("name: organ", "name: Organ", r"line 4: 'name' is 'Organ': use letters"),
        ("name: organ", "name: frame_id", r"line 4: dimension 'frame_id' is called like a column"),
        ("[liver]", "['" + "{a|b}" * 25 + "']", r"line 9: bad surface form: .* more than 20,000 forms"),
        ("[liver]", "&a [*a]", r"line 3: what stands here is nested too deeply"),
    ],
    ids=["role", "list", "truth", "key", "name", "reserved", "explosion", "loop"],
)
def test_the_only_dimension_is_blamed_for_what_is_wrong_in_it(old, new, message):
    with pytest.raises(TaxonomyError, match=message):
        build(ONE.replace(old, new, 1))


def test_anchors_that_multiply_are_refused():
    lists = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9) if i else 'y'}]\n" for i in range(9))
    with pytest.raises(TaxonomyError, match="repeats itself without end"):
        build(lists + ONE)


def test_a_huge_file_is_refused(tmp_path):
    (tmp_path / "huge.yaml").write_text(ONE + "# " + "x" * (5 << 20))
    with pytest.raises(TaxonomyError, match=r"huge\.yaml: is larger than 4 MB"):
        load_taxonomy(tmp_path / "huge.yaml")


def test_cycle_of_parents_is_refused():
    text = SMALL.replace(
        "      - name: Neck",
        "      - name: Neck\n        parent: Head\n      - name: Head\n        parent: Neck",
    )
    with pytest.raises(TaxonomyError, match=r"line \d+: cycle of parents: Neck -> Head -> Neck"):
        build(text)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(TaxonomyError, match=r"nowhere\.yaml: cannot be read"):
        load_taxonomy(tmp_path / "nowhere.yaml")
