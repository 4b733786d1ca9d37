"""`usds review`: a page on this machine to look at doubtful captions and correct their labels."""

from __future__ import annotations

from typing import Annotated

import typer

from usds.cli.console import DEFAULT_DATASET, DatasetOption, JsonOption, Output
from usds.schemas.errors import UsageError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("review", epilog="Example:  usds review --no-browser --port 8080")(review)


def review(
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    set_name: Annotated[
        str | None, typer.Option("--set", help="Annotation set to correct.  [default: the current one]")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show every caption, not only those in doubt.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Captions to show at most.")] = 2000,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: a free one.")] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Look at doubtful captions beside their frames and correct their labels, in the browser.

    Shown are conflicts, abstentions, fuzzy matches, findings without an organ and 1 % of all captions. Every
    save is kept at once; Ctrl-C or the button Finish ends the review and labels the frames anew.
    """
    from usds.curation.annotate import AnnotateSettings
    from usds.curation.review_page import ReviewSession
    from usds.curation.review_server import ReviewServer
    from usds.schemas.dataset import Dataset

    output = Output(json)
    session = ReviewSession(Dataset.open(dataset), set_name=set_name, limit=limit, every=every)
    if not len(session):
        output.data({"captions": 0, "saved": 0, "corrections": 0})
        output.show("nothing to review: no caption is in doubt (--all shows every one)")
        return
    try:
        server = ReviewServer(session, port)
    except OSError as error:
        raise UsageError(f"port {port}: {error.strerror}: choose another with --port") from error
    shown = "first " if session.is_cut else ""
    output.note(f"the {shown}{len(session):,} captions to look at: {server.address}")
    output.note("Ctrl-C, or Finish on the page, ends the review")
    if browser:
        import webbrowser

        webbrowser.open(server.address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    report = session.finish(AnnotateSettings())
    output.data({"captions": len(session), "saved": session.saved, "corrections": session.corrections})
    output.show(f"looked at {session.saved:,} captions, recorded {session.corrections:,} corrections")
    if report is not None:
        output.show(f"set {report.set_name}: {report.tasks_done} tasks annotated anew")
