"""The table of commands, in the order of ``usds --help``.

A command's module is imported only when it runs, so that help is quick and a library that cannot be loaded
stops only the commands that need it. Each module exposes ``register(app)``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["COMMANDS", "Command", "commands"]


class Command(NamedTuple):
    """Name as typed, module below ``usds.cli``, panel of the help, one line of help."""

    name: str
    module: str
    panel: str
    help: str


COMMANDS: Final = (
    Command("ingest", "ingest", "Dataset", "Raw exports -> de-identified frames and captions."),
    Command("annotate", "annotate", "Dataset", "Captions -> labels of a taxonomy, with evidence."),
    Command("review", "review", "Dataset", "A local page to look at frames and correct their labels."),
    Command("split", "split", "Dataset", "Place subjects in train, valid and test."),
    Command("stats", "stats", "Dataset", "What is in the dataset: tables, or an HTML report."),
    Command("sql", "sql", "Dataset", "One SELECT over the dataset's tables."),
    Command("show", "show", "Dataset", "Facts, captions and labels of one frame, and its picture."),
    Command("import", "import_", "Dataset", "Load a published dataset (US-365K) or released weights."),
    Command("export", "export", "Dataset", "Write the dataset or a run in another tool's format."),
    Command("audit", "audit", "Privacy", "Search the dataset for what must not be in it."),
    Command("locate", "locate", "Privacy", "Where a source file lies; reads the private state."),
    Command("forget", "forget", "Privacy", "Remove a subject that withdraws."),
    Command("train", "train", "Model", "Train Ultrasound-CLIP on the dataset."),
    Command("evaluate", "evaluate", "Model", "Retrieval, zero-shot labels and probes of a run."),
    Command("search", "search", "Model", "Find frames by text, or labels by picture."),
    Command("taxonomy", "taxonomy", "Tools", "Show, validate, draw and compare taxonomies."),
    Command("doctor", "doctor", "Tools", "What works on this machine, what does not, how to mend it."),
)


@lru_cache
def commands() -> dict[str, Command]:
    """The commands of this installation by name."""
    folder = Path(__file__).parent
    return {entry.name: entry for entry in COMMANDS if (folder / f"{entry.module}.py").is_file()}
