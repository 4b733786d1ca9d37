"""presidio-analyzer as a peer of `benchmarks.prose`, offline.

Its names come from a language model (en_core_web_lg), which is not on the package index. Without one it runs
on an empty pipeline: its patterns (dates, phones, mails, numbers) work, its names do not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import spacy
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import SpacyNlpEngine

from benchmarks.prose_cases import Case

__all__ = ["analyser"]


def analyser(model: str | None = None) -> Callable[[Case], str]:
    """Make a function that removes what presidio finds.

    Parameters
    ----------
    model : str or None
        Name or folder of a spaCy model with names; None for an empty English pipeline.
    """
    if model is None:
        model = tempfile.mkdtemp()
        spacy.blank("en").to_disk(model)
    engine = AnalyzerEngine(nlp_engine=SpacyNlpEngine([{"lang_code": "en", "model_name": model}]))

    def scrub(case: Case) -> str:
        text = case.text
        found = engine.analyze(text=text, language="en")
        for one in sorted(found, key=lambda result: result.start, reverse=True):
            text = f"{text[: one.start]} {text[one.end :]}"
        return text

    return scrub
