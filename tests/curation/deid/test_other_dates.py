"""Dates in rarer notations go; numbers that look a little like them stay."""

from __future__ import annotations

import pytest

from usds.curation.deid.prose import Scrubber

SENTENCE = "Hypoechoic mass in the left lobe of the liver {} with smooth margins and no vascularity."


@pytest.mark.parametrize(
    "date",
    ["2019年5月14日", "2019 年 5 月 14 日", "５月１４日", "2019년 5월 14일", "2019年5月", "14 V 2019", "14.XI.2019", "W20/2019",
     "2019-W20-2", "week 20 of 2019", "2019,05,14", "2019|05|14", "2019_05_14", "14·05·2019"],
)  # fmt: skip
def test_a_date_goes_as_a_whole(date: str) -> None:
    scrubbed = Scrubber().scrub(SENTENCE.format(f"imaged on {date}"))
    assert scrubbed.text == SENTENCE.format("imaged on [DATE]")
    assert not scrubbed.withheld


@pytest.mark.parametrize("harmless", ["of 12 mm in segment IV", "at week 20", "of 12,10,8 mm", "of grade II"])
def test_what_is_no_date_stays(harmless: str) -> None:
    text = SENTENCE.format(harmless)
    assert Scrubber().scrub(text).text == text
