"""Keep what libraries say away from users: their messages quote values of the file."""

from __future__ import annotations

import errno
import logging
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from types import TracebackType

from usds.curation.readers.base import MediaError, MediaReason

_LOGGERS = tuple(logging.getLogger(name) for name in ("pydicom", "PIL", "libav", "pylibjpeg"))


@cache
def _silence_native_code() -> None:
    """Turn off what C libraries print to stderr by themselves; they offer no quieter way."""
    import av.logging
    import cv2
    import gdcm

    av.logging.set_level(None)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    for switch in (gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff, gdcm.Trace.DebugOff):
        switch()
    for logger in _LOGGERS:
        # Without any handler, logging would print warnings to stderr as its last resort.
        logger.addHandler(logging.NullHandler())


@contextmanager
def _quiet() -> Generator[None]:
    """Drop warnings, and keep records of the libraries' loggers from the handlers of the root."""
    _silence_native_code()
    before = [logger.propagate for logger in _LOGGERS]
    if not any(before):  # an outer call keeps quiet already
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in _LOGGERS:
            logger.propagate = False
        try:
            yield
        finally:
            for logger, propagate in zip(_LOGGERS, before, strict=True):
                logger.propagate = propagate


@contextmanager
def stderr_closed() -> Generator[None]:
    """Send what C code prints to file descriptor 2 nowhere; for libraries without a switch (libtiff).

    The descriptor belongs to the whole process: use it around short calls, in workers of one thread.
    """
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


class guarded:
    """Run library code so that only a reason code comes out of it.

    Warnings and log records are dropped; any exception but `MediaError` becomes
    ``MediaError(reason)`` without a cause, since decoders put values of the file into messages.

    Parameters
    ----------
    reason : MediaReason
        What a failure means at this place. Failures of the disk and of memory keep their own reasons.
    """

    def __init__(self, reason: MediaReason) -> None:
        self._reason: MediaReason = reason

    def __enter__(self) -> None:
        self._context = _quiet()
        self._context.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(None, None, None)
        if error is None or isinstance(error, MediaError) or not isinstance(error, Exception):
            return
        raise MediaError(_reason_of(error, self._reason)) from None


def _reason_of(error: Exception, fallback: MediaReason) -> MediaReason:
    if isinstance(error, PermissionError):
        return "permission_denied"
    if isinstance(error, MemoryError) or type(error).__name__ == "DecompressionBombError":
        return "decompression_bomb"
    if isinstance(error, OSError) and error.errno == errno.EIO:
        return "disk_error"
    # Pillow says it in words only; the words decide, and stay here.
    if fallback == "unreadable" and isinstance(error, OSError) and "truncated" in str(error):
        return "truncated"
    return fallback
