"""`usds annotate`: captions -> labels, of a dataset or of a text file; evaluation, explanation, review."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from usds.cli.console import (
    DEFAULT_DATASET,
    ConfigOption,
    DatasetOption,
    DryRunOption,
    JsonOption,
    Output,
    command_line,
    load_settings,
    progress,
)
from usds.cli.errors import PARTIAL
from usds.cli.taxonomies import TaxonomyOption, open_taxonomy
from usds.schemas.errors import UsageError

if TYPE_CHECKING:
    from usds.curation.annotate import AnnotateReport, AnnotateSettings
    from usds.taxonomy.lines import LineError
    from usds.taxonomy.udt import Taxonomy

__all__ = ["register"]

_STANDARD = Path("-")  # standard input, standard output
_TOLD = 1 << 16  # bytes between two steps of the bar
_LARGE = 1 << 23  # bytes of a file below which worker processes cost more than they save
_STYLES = {
    "present": "bold green",
    "negated": "bold red",
    "uncertain": "bold yellow",
    "history": "magenta",
    "other": "cyan",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "annotate",
        epilog="Examples:  usds annotate --taxonomy udt.yaml    "
        "usds annotate --input captions.jsonl --output labels.jsonl    "
        'usds annotate --explain "Simple cyst of the left kidney, no solid mass."',
    )(annotate)


def annotate(
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    taxonomy: TaxonomyOption = "udt",
    set_name: Annotated[
        str | None, typer.Option("--set", help="Name of the label set.  [default: taxonomy id and hash]")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--input", help="Label the lines {id, text} of this JSONL file (-: stdin).")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--output", help="Labels of --input, as JSONL (-: stdout).")
    ] = None,
    evaluate: Annotated[
        Path | None, typer.Option("--evaluate", help="Compare with a gold JSONL file: P, R, F1, errors.")
    ] = None,
    explain: Annotated[
        str | None, typer.Option("--explain", help="Show the findings of a text and the rule of each.")
    ] = None,
    review: Annotated[
        Path | None, typer.Option("--review", help="Write the captions that a person should look at (CSV).")
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option("--apply", help="Take corrected rows of a review table; they win from then on."),
    ] = None,
    redo: Annotated[bool, typer.Option("--redo", help="Annotate every task again.")] = False,
    workers: Annotated[int | None, typer.Option(min=0, help="Worker processes; 0: one a core.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Label captions with a taxonomy: the dataset's, those of a file, or one text.

    Labels lie beside the dataset's pixels, one set a taxonomy; only what changed is annotated again.
    """
    output = Output(json)
    _one_of(
        {
            "--input": source,
            "--evaluate": evaluate,
            "--explain": explain,
            "--review": review,
            "--apply": apply,
        }
    )
    if (source is None) != (target is None):
        raise UsageError("--input and --output belong together: name both")
    if source is not None and target is not None:
        chosen = open_taxonomy(taxonomy, output)
        _file(chosen, source, target, output, workers=workers, dry_run=dry_run)
    elif explain is not None:
        _explain(open_taxonomy(taxonomy, output), explain, output)
    elif evaluate is not None:
        _evaluate(open_taxonomy(taxonomy, output), evaluate, output)
    elif review is not None:
        _review(dataset, review, set_name, output, dry_run=dry_run)
    else:
        from usds.curation.annotate import AnnotateSettings

        settings = load_settings(AnnotateSettings, config, "annotate", {"workers": workers})
        if apply is not None:
            _apply(dataset, apply, set_name, settings, output, dry_run=dry_run)
        else:
            chosen = open_taxonomy(taxonomy, output)
            _dataset(dataset, chosen, settings, output, set_name=set_name, redo=redo, dry_run=dry_run)


def _one_of(options: Mapping[str, object]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} exclude each other: use one at a time")


# -- a dataset ------------------------------------------------------------------------------------------


def _dataset(
    root: Path,
    taxonomy: Taxonomy,
    settings: AnnotateSettings,
    output: Output,
    *,
    set_name: str | None,
    redo: bool,
    dry_run: bool,
) -> None:
    from usds.curation.annotate import annotate_dataset
    from usds.schemas.dataset import Dataset

    opened = Dataset.open(root)
    if dry_run:
        report = annotate_dataset(opened, taxonomy, settings, set_name=set_name, redo=redo, dry_run=True)
    else:
        with opened.lock(command_line()), progress("annotating") as bar:
            report = annotate_dataset(
                opened, taxonomy, settings, set_name=set_name, redo=redo, progress=_tell(bar.update)
            )
    _print(report, output, dry_run=dry_run)


def _tell(update: Callable[..., None]) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        update(done=done, total=total)

    return tell


def _print(report: AnnotateReport, output: Output, *, dry_run: bool = False, **extra: Any) -> None:
    output.data(
        {
            "set": report.set_name, "taxonomy": report.taxonomy, "tasks_done": report.tasks_done,
            "tasks_kept": report.tasks_kept, **report.counts, "dry_run": dry_run, **extra,
        }
    )  # fmt: skip
    counts = report.counts
    if dry_run:
        output.show(f"would annotate {report.tasks_done} tasks into set {report.set_name}")
        return
    if not report.tasks_done:
        output.show(f"nothing to do: set {report.set_name} is up to date")
    output.show(
        f"set {report.set_name} ({report.taxonomy}): {counts.get('labelled', 0):,} of "
        f"{counts.get('frames', 0):,} frames labelled, from {counts.get('captions', 0):,} captions; "
        f"{counts.get('abstained', 0):,} captions abstained, {counts.get('conflicts', 0):,} frames conflict"
    )
    if counts.get("conflicts") or counts.get("abstained"):
        output.show("next: `usds annotate --review review.csv` lists what a person should look at")


# -- review ---------------------------------------------------------------------------------------------


def _review(root: Path, path: Path, set_name: str | None, output: Output, *, dry_run: bool) -> None:
    from usds.curation.review import write_review
    from usds.schemas.dataset import Dataset

    if dry_run:
        raise UsageError("--review writes one file that you name; --dry-run has nothing to add")
    report = write_review(Dataset.open(root), path, set_name=set_name)
    output.data({"path": str(path), "rows": report.rows, "reasons": report.reasons})
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(report.reasons.items()))
    output.show(f"{path}: {report.rows:,} captions ({reasons or 'none'})")
    output.show(f"edit the label cells, then `usds annotate --apply {path}`")


def _apply(
    root: Path, path: Path, set_name: str | None, settings: AnnotateSettings, output: Output, *, dry_run: bool
) -> None:
    from usds.curation.annotate import annotate_dataset
    from usds.curation.review import current_taxonomy, read_review
    from usds.schemas.dataset import Dataset

    opened = Dataset.open(root)
    name, taxonomy = current_taxonomy(opened, set_name)
    if dry_run:
        corrections = read_review(opened, path, set_name=name, dry_run=True)
        output.data({"corrections": len(corrections), "dry_run": True})
        output.show(f"would record {len(corrections):,} corrections")
        return
    with opened.lock(command_line()):
        corrections = read_review(opened, path, set_name=name)
        report = annotate_dataset(opened, taxonomy, settings, set_name=name)
    captions = len({correction.caption_id for correction in corrections})
    output.show(f"recorded {len(corrections):,} corrections of {captions:,} captions")
    _print(report, output, corrections=len(corrections))


# -- text -----------------------------------------------------------------------------------------------


def _file(
    taxonomy: Taxonomy, source: Path, target: Path, output: Output, *, workers: int | None, dry_run: bool
) -> None:
    """Label a JSONL file; lines that cannot be read are named on stderr, and make the exit code 3."""
    from usds.taxonomy.lines import LineError

    if source != _STANDARD and not source.is_file():
        raise UsageError(f"no file {source}: name a JSONL file with --input, or - for standard input")
    if target == _STANDARD and output.json:
        raise UsageError("--output - writes the labels to standard output: leave out --json")
    size = source.stat().st_size if source != _STANDARD else 0
    if not workers:
        workers = (os.cpu_count() or 1) if size >= _LARGE else 1
    done = bad = 0
    opened = source.open("rb") if source != _STANDARD else nullcontext(sys.stdin.buffer)
    with opened as lines, _sink(target, dry_run=dry_run) as sink:
        with progress("annotating", total=size or None) as bar:
            for result in _labels(taxonomy, _counted(lines, bar.advance), workers):
                if isinstance(result, LineError):
                    bad += 1
                    output.note(f"{source}, {result}")
                else:
                    done += 1
                    sink.write(result + "\n")
        sink.flush()
    output.data({"input": str(source), "output": str(target), "labelled": done, "bad_lines": bad})
    what = "would be labelled" if dry_run else "labelled"
    tell = output.show if target != _STANDARD else output.note
    tell(f"{target}: {done:,} captions {what}" + (f", {bad:,} bad lines" if bad else ""))
    if bad:
        raise typer.Exit(PARTIAL)


@contextmanager
def _sink(target: Path, *, dry_run: bool) -> Generator[TextIO]:
    """The output file, in its place only when complete; nothing is kept in a dry run."""
    from usds.schemas.files import atomic_path

    if dry_run:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            yield nowhere
        return
    if target == _STANDARD:
        sink = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
        try:
            yield sink
        finally:
            sink.detach()
        return
    with atomic_path(target) as partial, partial.open("w", encoding="utf-8") as sink:
        yield sink


def _labels(taxonomy: Taxonomy, lines: Iterable[bytes], workers: int) -> Iterator[str | LineError]:
    from usds.taxonomy.extract import Extractor
    from usds.taxonomy.lines import labels_by_processes, labels_jsonl

    if workers == 1:
        return labels_jsonl(Extractor(taxonomy), lines)
    return labels_by_processes(taxonomy, lines, workers)


def _counted(lines: Iterable[bytes], advance: Callable[[float], None]) -> Iterator[bytes]:
    """The lines, telling now and then how many bytes they were: a bar is slower than a caption."""
    size = 0
    for line in lines:
        size += len(line)
        if size >= _TOLD:
            advance(size)
            size = 0
        yield line


def _evaluate(taxonomy: Taxonomy, gold: Path, output: Output) -> None:
    from rich import box
    from rich.table import Table

    from usds.taxonomy.evaluate import evaluate as compare
    from usds.taxonomy.evaluate import read_gold
    from usds.taxonomy.extract import Extractor

    if not gold.is_file():
        raise UsageError(f"no file {gold}: name a gold JSONL file with --evaluate")
    result = compare(Extractor(taxonomy), read_gold(gold))
    output.data(result.to_json())
    table = Table("labels", "n", "precision", "recall", "F1", "95 %", box=box.SIMPLE_HEAD)
    scores = {**result.dimensions, "present, micro": result.micro, "negated": result.negated}
    for name, score in {**scores, "uncertain": result.uncertain}.items():
        interval = "" if score.low != score.low else f"{score.low:.3f}-{score.high:.3f}"
        numbers = (f"{value:.3f}" for value in (score.precision, score.recall, score.f1))
        table.add_row(name, str(score.tp + score.fn), *numbers, interval)
    macro = f"{result.macro_f1:.3f} ({result.macro_low:.3f}-{result.macro_high:.3f})"
    output.show(f"{result.n:,} captions, macro-F1 {macro}", table)
    danger = f"{result.dangerous} of {result.dangerous_of}"
    if result.dangerous_of:
        danger += f" (95 % {result.dangerous_low:.1%} to {result.dangerous_high:.1%})"
    output.show(f"negated called present: {danger}")
    output.show(
        f"abstained rightly: {result.abstained_right} of {result.abstained_of}, "
        f"wrongly: {result.abstained_wrong}"
    )
    for worst in result.worst:
        output.show(f"{worst['id']}  {worst['text']}")
        for kind in ("missed", "invented"):
            if worst[kind]:
                output.show(f"    {kind}: {'; '.join(worst[kind])}")


def _explain(taxonomy: Taxonomy, text: str, output: Output) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from usds.taxonomy.extract import Extractor, explain

    text = text.encode("utf-8", "replace").decode("utf-8")
    extraction = Extractor(taxonomy).extract(text)
    output.data(extraction.to_json())
    if extraction.abstained:
        output.show(f"abstained: {extraction.abstained}")
        return
    marked = Text(text)
    spans = explain(extraction, text)
    for span in spans:
        marked.stylize(_STYLES[span.assertion], span.start, span.end)
        if span.cue:
            marked.stylize("underline", *span.cue)
    table = Table("finding", "assertion", "labels", "cue", "rule", box=box.SIMPLE_HEAD)
    for span in spans:
        table.add_row(
            Text(text[span.start : span.end]), Text(span.assertion, _STYLES[span.assertion]),
            Text("\n".join(span.labels)), Text(text[slice(*span.cue)] if span.cue else ""),
            Text("\n".join(span.rules)),
        )  # fmt: skip
    output.show(marked, table)
    if extraction.conflict:
        output.show("the text contradicts itself")
