"""Errors that are meant for people.

Every error that a command may show derives from :class:`UsdsError`; its text says what is wrong, where, and
what to do, and never carries a value from below a raw folder.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["ContentError", "UsageError", "UsdsError", "damaged"]


class UsdsError(Exception):
    """Base of the errors a command reports in one line.

    Attributes
    ----------
    exit_code : int
        Exit status of the command: 1 for content and run time, 2 for what the command line can mend.
    """

    exit_code: int = 1


class ContentError(UsdsError):
    """The content is wrong (a bad taxonomy, not a dataset, an audit finding): exit 1."""

    exit_code = 1


class UsageError(UsdsError):
    """The command line or the settings can mend it (unknown option, missing path): exit 2."""

    exit_code = 2


def damaged(path: Path) -> ContentError:
    """The error about a document of the dataset that cannot be read."""
    return ContentError(f"{path} is damaged: restore it from a copy, or ingest into a new dataset")
