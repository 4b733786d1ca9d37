from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from usds.taxonomy.normalise import normalise, sanitise, tokenise


def test_ligature_keeps_its_place():
    normal = normalise("a ﬁne cyst")
    assert normal.text == "a fine cyst"
    start = normal.text.index("cyst")
    assert normal.span(start, start + 4) == (6, 10)


def test_glued_words_are_cut():
    assert tokenise(normalise("imageRed asterisks")).words == ["image", "red", "asterisks"]


def test_possessive_and_hyphen_are_no_tokens():
    assert tokenise(normalise("Baker's well-defined cyst")).words == ["baker", "well", "defined", "cyst"]


def test_surrogate_becomes_the_replacement_character():
    assert sanitise("a\ud800b") == "a\ufffdb"


@given(st.text(max_size=200))
def test_every_token_lies_inside_the_given_text(text):
    normal = normalise(text)
    assert len(normal.text) == len(normal.lower)
    tokens = tokenise(normal)
    for start, end in zip(tokens.starts, tokens.ends, strict=True):
        first, last = normal.span(start, end)
        assert 0 <= first < last <= len(text)
