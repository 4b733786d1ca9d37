"""What every command shares: its common options, settings files, output, progress.

A command prints people's text and tables on stdout, or with ``--json`` one JSON value and nothing else; notes
and progress go to stderr.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from usds.schemas.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

__all__ = [
    "DEFAULT_DATASET",
    "ConfigOption",
    "DatasetOption",
    "DryRunOption",
    "JsonOption",
    "Output",
    "Progress",
    "command_line",
    "load_settings",
    "nearest",
    "progress",
    "read_config",
]

DEFAULT_DATASET = Path("dataset")

DatasetOption = Annotated[
    Path,
    typer.Option("--dataset", envvar="USDS_DATASET", help="The dataset directory.", metavar="DIR"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout, nothing else.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Settings in YAML, one section a command; options win over it.", metavar="FILE"
    ),
]

SettingsT = TypeVar("SettingsT", bound="BaseModel")


# -- output ---------------------------------------------------------------------------------------------


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # A pipe has no width: 80 columns would cut tables that grep or a file could hold whole.
    return Console(file=stream, width=None if stream.isatty() else 160, highlight=False)


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command's words go.

    Parameters
    ----------
    json : bool
        Whether stdout carries data only.
    """

    json: bool = False

    def show(self, *renderables: Any) -> None:
        """Print text or rich renderables on stdout; nothing with ``--json``."""
        if not self.json:
            console = _console()
            for renderable in renderables:
                console.print(renderable, soft_wrap=isinstance(renderable, str), markup=False)

    def note(self, text: str) -> None:
        """Print a line on stderr, for the person at the terminal."""
        sys.stderr.write(text.rstrip("\n") + "\n")

    def data(self, value: Any) -> None:
        """Print ``value`` as JSON on stdout; nothing without ``--json``."""
        if self.json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(cast("Mapping[Any, Any]", value))
    if isinstance(value, set | frozenset):
        return sorted(cast("set[Any]", value))
    for attribute in ("item", "isoformat", "as_posix"):  # numpy scalars, dates, paths
        if hasattr(value, attribute):
            return getattr(value, attribute)()
    raise TypeError(f"{type(value).__name__} has no JSON form")


class Progress:
    """A bar on stderr; without a terminal every call does nothing."""

    def __init__(self, bar: Any = None, task: Any = None) -> None:
        self._bar = bar
        self._task = task

    def advance(self, n: float = 1) -> None:
        """Count ``n`` more as done."""
        if self._bar is not None:
            self._bar.advance(self._task, n)

    def update(
        self, *, done: float | None = None, total: float | None = None, label: str | None = None
    ) -> None:
        """Set what is done, the total, or the text beside the bar (never a path below a raw folder)."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=label)

    def stage(self, label: str, total: int) -> None:
        """A stage of the work begins: what a `usds.curation.run.Watcher` hears."""
        self.update(done=0, total=total, label=label)


@contextmanager
def progress(label: str, total: float | None = None) -> Generator[Progress]:
    """Show a bar on stderr while the block runs; it vanishes afterwards, and where there is no terminal."""
    if not sys.stderr.isatty():
        yield Progress()
        return
    from rich import progress as bars

    columns = (
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=_console(stderr=True), transient=True) as bar:
        yield Progress(bar, bar.add_task(label, total=total))


def command_line() -> str:
    """The command as typed, for the lock's message to a second writer."""
    return " ".join(["usds", *sys.argv[1:]])


# -- settings -------------------------------------------------------------------------------------------


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that ``name`` probably means."""
    from rapidfuzz import fuzz, process

    found = process.extractOne(name, list(valid), scorer=fuzz.ratio, score_cutoff=60)
    return found[0] if found else None


def read_config(path: Path) -> dict[str, Any]:
    """Read a settings file.

    Raises
    ------
    UsageError
        If it cannot be read, is not YAML, or is not a mapping; the message names the line.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}: name an existing file with --config") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UsageError(
            f"{path}{where}: not YAML: {getattr(error, 'problem', 'cannot be parsed')}"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: settings are `name: value` lines")
    return {str(key): value for key, value in cast("dict[Any, Any]", content).items()}


def load_settings(
    model: type[SettingsT], config: Path | None, section: str, overrides: Mapping[str, Any] | None = None
) -> SettingsT:
    """Settings of one command: its section of the file, then the options that were given.

    Parameters
    ----------
    model : type of BaseModel
        The frozen settings class.
    config : Path, optional
        A YAML file with one section a command, or with the settings of this one command alone.
    section : str
        Name of the command's section.
    overrides : mapping, optional
        Values of options; None means not given. Dots reach nested settings (``deid.quality``).

    Raises
    ------
    UsageError
        For an unknown key (with the nearest valid name) or a wrong value.
    """
    values = _section(read_config(config), section, model, config) if config else {}
    for name, value in (overrides or {}).items():
        if value is not None:
            _put(values, name.split("."), value)
    return _validated(model, values, f"{config}" if config else "settings")


def _section(content: dict[str, Any], section: str, model: type[BaseModel], path: Path) -> dict[str, Any]:
    from usds.cli.commands import commands

    sections = {entry.module for entry in commands().values()} | set(commands()) | {section}
    own = content.get(section)
    is_sectioned = any(
        key in sections and key not in model.model_fields and isinstance(value, dict | None)
        for key, value in content.items()
    )
    if not is_sectioned:
        return content
    for key in content:
        if key not in sections:
            near = nearest(key, sections)
            raise UsageError(
                f"{path}: no command {key!r} has settings" + (f"; did you mean {near!r}?" if near else "")
            )
    if own is None:
        return {}
    if not isinstance(own, dict):
        raise UsageError(f"{path}: section {section!r} holds `name: value` lines")
    return dict(cast("dict[str, Any]", own))


def _put(values: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        inner = values.get(name)
        values[name] = dict(cast("dict[str, Any]", inner)) if isinstance(inner, dict) else {}
        values = values[name]
    values[names[-1]] = value


def _validated(model: type[SettingsT], values: dict[str, Any], where: str) -> SettingsT:
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = cast("Mapping[str, Any]", error.errors(include_url=False, include_context=False)[0])
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] != "extra_forbidden":
            raise UsageError(f"{where}: {_wrong_value(path, first)}") from error
        valid = _fields(model, first["loc"][:-1])
        near = nearest(str(first["loc"][-1]), valid)
        hint = f"did you mean {near!r}?" if near else f"known are {', '.join(valid)}"
        raise UsageError(f"{where}: unknown setting {path!r}; {hint}") from error


def _wrong_value(path: str, error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not path:  # the settings as a whole: no single one is wrong
        return message
    given = error["input"]
    return f"setting {path!r}: {message}" + ("" if isinstance(given, Mapping) else f" (got {given!r})")


def _fields(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Names of the settings class at ``path`` below ``model``."""
    for part in path:
        field = model.model_fields.get(str(part))
        inner = getattr(field, "annotation", None)
        if isinstance(inner, type) and hasattr(inner, "model_fields"):
            model = cast("type[BaseModel]", inner)
    return list(model.model_fields)
