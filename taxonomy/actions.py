"""What the sweep does at each cue."""

from __future__ import annotations

from collections.abc import Iterable

from usds.taxonomy.assertion import Sweep
from usds.taxonomy.lexicon import Mark

__all__ = ["bind_actions"]

_HANDLERS = {
    "negation": Sweep.on_negation,
    "negation_contrast": Sweep.on_negation_contrast,
    "negation_short": Sweep.on_negation_short,
    "negation_prefix": Sweep.on_negation_prefix,
    "negation_either": Sweep.on_negation_either,
    "negation_verdict": Sweep.on_negation_verdict,
    "negation_subject": Sweep.on_negation_subject,
    "confirmation": Sweep.on_confirmation,
    "minus": Sweep.on_minus,
    "negation_aux": Sweep.on_negation_aux,
    "negation_after": Sweep.on_negation_after,
    "exclusion": Sweep.on_exclusion,
    "uncertain": Sweep.on_uncertain,
    "uncertain_either": Sweep.on_uncertain_either,
    "uncertain_verdict": Sweep.on_uncertain_verdict,
    "uncertain_between": Sweep.on_uncertain_between,
    "uncertain_modal": Sweep.on_uncertain_modal,
    "uncertain_list": Sweep.on_uncertain_list,
    "uncertain_after": Sweep.on_uncertain_after,
    "versus": Sweep.on_versus,
    "history_either": Sweep.on_past_either,
    "uncertain_heading": Sweep.on_uncertain_heading,
    "includes": Sweep.on_includes,
    "history": Sweep.on_past,
    "history_adverb": Sweep.on_past_adverb,
    "asked": Sweep.on_asked,
    "asked_after": Sweep.on_asked_after,
    "uncertain_clause": Sweep.on_uncertain_clause,
    "family": Sweep.on_past,
    "hypothetical": Sweep.on_hypothesis,
    "likeness": Sweep.on_likeness,
    "generic": Sweep.on_generic,
    "landmark": Sweep.on_landmark,
    "but": Sweep.on_clause,
    "break": Sweep.on_break,
    "and_the": Sweep.on_and_the,
    "affirm": Sweep.on_affirm,
    "category": Sweep.on_category,
    "with": Sweep.on_with,
    "comma_with": Sweep.on_comma_with,
    "verb": Sweep.on_verb,
    "in": Sweep.on_in,
    "and": Sweep.on_and,
    "or": Sweep.on_or,
    "comma": Sweep.on_comma,
    "semicolon": Sweep.on_clause,
    "colon": Sweep.on_colon,
    "stop": Sweep.on_stop,
    "period": Sweep.on_period,
    "question": Sweep.on_question,
    "ultrasound": Sweep.on_ultrasound,
    "other_modality": Sweep.on_other_modality,
}


def bind_actions(marks: Iterable[Mark]) -> None:
    """Tell every phrase what the sweep does at it."""
    for mark in marks:
        mark.actions = tuple(_HANDLERS[cue] for cue in mark.cues if cue in _HANDLERS)
