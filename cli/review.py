"""`usds review`: a page on this machine to look at what is in doubt, captions or pictures, and settle it."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usds.cli.console import DEFAULT_DATASET, DatasetOption, JsonOption, Output
from usds.schemas.errors import UsageError

if TYPE_CHECKING:
    from usds.curation.review_server import Session
    from usds.curation.settle import SettleReport

__all__ = ["register"]

_MOST, _MOST_LAID_OUT = 2000, 100
"""Captions or files of one review; files whose native frames are read for it."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("review", epilog="Example:  usds review --pictures --no-browser --port 8080")(review)


def review(
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    set_name: Annotated[
        str | None, typer.Option("--set", help="Annotation set to correct.  [default: the current one]")
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="Show every caption; with --pictures the files of the dataset."),
    ] = False,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Settle files whose pixels are in doubt, not captions.")
    ] = False,
    frame: Annotated[
        list[str] | None,
        typer.Option(help="With --pictures: a frame of the dataset, or the key of a file.", metavar="ID"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="What to show at most.  [default: 2000; 100 with --pictures --all]"),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: a free one.")] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Look at what is in doubt and settle it, in the browser.

    Captions beside their frames, to correct their labels: conflicts, abstentions, fuzzy matches, findings
    without an organ and 1 % of all captions. With --pictures the files under review, to draw or remove boxes,
    set the image area, accept or keep out; with --all the files of the dataset, those with most black first.

    Every save is kept at once; Ctrl-C or the button Finish ends the review and brings it into the dataset.
    """
    output = Output(json)
    if pictures:
        if set_name is not None:
            raise UsageError("--set chooses labels: leave it away with --pictures")
        _pictures(output, dataset, frame or [], every=every, limit=limit, port=port, browser=browser)
        return
    if frame:
        raise UsageError("--frame names a picture: add --pictures")
    _captions(output, dataset, set_name, every=every, limit=limit or _MOST, port=port, browser=browser)


def _captions(
    output: Output, dataset: Path, set_name: str | None, *, every: bool, limit: int, port: int, browser: bool
) -> None:
    from usds.curation.annotate import AnnotateSettings
    from usds.curation.review_page import ReviewSession
    from usds.schemas.dataset import Dataset

    session = ReviewSession(Dataset.open(dataset), set_name=set_name, limit=limit, every=every)
    if not len(session):
        output.data({"captions": 0, "saved": 0, "corrections": 0})
        output.show("nothing to review: no caption is in doubt (--all shows every one)")
        return
    _serve(output, session, _to_look_at(len(session), "caption", cut=session.is_cut), port, browser)
    report = session.finish(AnnotateSettings())
    output.data({"captions": len(session), "saved": session.saved, "corrections": session.corrections})
    output.show(f"looked at {session.saved:,} captions, recorded {session.corrections:,} corrections")
    if report is not None:
        output.show(f"set {report.set_name}: {report.tasks_done} tasks annotated anew")


def _pictures(
    output: Output, root: Path, names: list[str], *, every: bool, limit: int | None, port: int, browser: bool
) -> None:
    from dataclasses import asdict

    from usds.cli.console import progress
    from usds.curation.review_pictures import PictureSession
    from usds.curation.review_queue import files_in_doubt, files_named, most_redacted
    from usds.curation.run import local_executor
    from usds.curation.settle import settle
    from usds.schemas.dataset import Dataset
    from usds.schemas.state import State

    dataset = Dataset.open(root)
    state = State.open(dataset.info.dataset_id, dataset.info.key_fingerprint)
    most = limit or (_MOST_LAID_OUT if every else _MOST)
    with progress("reading pictures"):
        if names:
            found = files_named(dataset, state, names, local_executor)
        elif every:
            found = most_redacted(dataset, state, most, local_executor)
        else:
            found = files_in_doubt(dataset, state, most)
    session = PictureSession(dataset, state, found)
    try:
        if found:
            with _ended_in_order():
                cut = not names and len(session) == most
                _serve(output, session, _to_look_at(len(session), "file", cut=cut), port, browser)
    finally:
        session.close()
    with progress("reading raw files again") as bar:
        report = settle(dataset, state, watcher=bar)
    output.data({"files": len(session), "saved": session.saved, **asdict(report)})
    if not found:
        output.show("nothing to review: no file is in doubt (--all shows the files of the dataset)")
    else:
        output.show(f"decided about {session.saved:,} of {len(session):,} files")
    _settled(output, report)


def _to_look_at(count: int, noun: str, *, cut: bool) -> str:
    """What the page shows, in words; ``cut`` where the limit may hide more."""
    first = "the first " if cut else ""
    return f"{first}{count:,} {noun}{'' if count == 1 else 's'} to look at"


@contextmanager
def _ended_in_order() -> Generator[None]:
    """Clean up too where the terminal is closed or the process is asked to end: no native picture stays."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if before[number] is not signal.SIG_IGN]  # as below nohup
    for number in heard:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _settled(output: Output, report: SettleReport) -> None:
    from usds.curation.outcomes import outcome_of

    words = {"ok": "in the dataset", "kept_out": "kept out"}
    for reason, count in sorted(report.outcomes.items()):
        output.show(f"{count:,} done again: {words.get(reason, f'still refused ({reason})')}")
    if any(outcome_of(reason) == "review" for reason in report.outcomes):
        output.note("note: run `usds review --pictures` again to see what is still in doubt")
    if report.refused:
        output.note(f"note: {report.refused:,} files keep boxes that you removed: text can be read in them")
    for problem in report.problems:
        output.note(f"note: {problem}")
    if report.waiting and report.problems:
        output.note(f"note: {report.waiting:,} decisions are kept and wait until that is mended")
    elif report.waiting:
        output.note(
            f"note: {report.waiting:,} decisions wait, as their raw files are not where they were: run "
            "`usds ingest RAW` when they are back"
        )
    if report.outcomes.keys() & words.keys():
        output.note("note: run `usds annotate` and `usds audit` again")


def _serve(output: Output, session: Session, what: str, port: int, browser: bool) -> None:
    """Serve the page until it says that it is finished, or Ctrl-C."""
    from usds.curation.review_server import ReviewServer

    try:
        server = ReviewServer(session, port)
    except OSError as error:
        raise UsageError(f"port {port}: {error.strerror}: choose another with --port") from error
    output.note(f"{what}: {server.address}")
    output.note("Ctrl-C, or Finish on the page, ends the review")
    if browser:
        import webbrowser

        webbrowser.open(server.ticket)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
