from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usds.taxonomy import normalise as module
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


@given(st.text(alphabet=[chr(c) for c in range(128) if chr(c) != "'"], max_size=80))
def test_the_quick_pattern_cuts_plain_text_as_the_full_one_does(text):
    assert module._PLAIN.split(text.lower()) == module._TOKEN.split(text.lower())


@given(st.text(alphabet="ab 1.é\u0301½ﬁ²\u0327ﷺ", max_size=60))
def test_only_what_is_not_plain_is_normalised_and_offsets_hold(text):
    normal = normalise(text)
    assert normal.text == "".join(unicodedata.normalize("NFKC", part) for part in _clusters(text))
    if normal.offsets is not None:
        assert len(normal.offsets) == len(normal.text) + 1
        assert normal.offsets == sorted(normal.offsets)


def _clusters(text):
    parts = []
    for char in text:
        if parts and unicodedata.combining(char) and len(parts[-1]) < 32:
            parts[-1] += char
        else:
            parts.append(char)
    return parts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2.5 cm x 1,000 (T1)", ["2.5", "cm", "x", "1,000", "(", "t", "1", ")"]),
        ("liver.\n\n- cyst\nspleen", ["liver", ".", "!", "!", "cyst", "spleen"]),
        ("Écho d’été: 5 µm", ["écho", "d", "été", ":", "5", "um"]),
    ],
)
def test_what_is_a_token(text, words):
    assert tokenise(normalise(text)).words == words
