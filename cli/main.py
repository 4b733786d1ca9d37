"""The command `usds`: a table of commands, each in a module of its own that is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from usds.cli import errors
from usds.cli.commands import commands
from usds.schemas.offline import silence

__all__ = ["app"]


def load_command(name: str) -> Any:
    """Import a command's module and build its command with ``register``."""
    entry = commands()[name]
    holder = typer.Typer()
    import_module(f"usds.cli.{entry.module}").register(holder)
    group: Any = typer.main.get_group(holder)
    return group.commands[name]


class CommandGroup(TyperGroup):
    """Commands by name; the real one is imported only to run it or to print its own help."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Names in the order of the table."""
        return list(commands())

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """A command that knows its line of help and nothing else."""
        entry = commands().get(cmd_name)
        return entry and TyperCommand(entry.name, help=entry.help, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:  # type: ignore[override]
        """The real command of ``args``."""
        if args[0] in commands():
            return args[0], load_command(args[0]), args[1:]
        from usds.cli.console import nearest

        near = nearest(args[0], commands())
        ctx.fail(f"No such command {args[0]!r}" + (f"; did you mean {near!r}?" if near else ""))

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *more: Any, **extra: Any
    ) -> Any:
        """Run, report errors in one line, exit with the code that the documentation promises."""
        silence()
        extra["standalone_mode"] = False
        sys.exit(errors.guarded(lambda: super(CommandGroup, self).main(args, "usds", *more, **extra)))


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"usds {metadata.version('usds')}")
        raise typer.Exit


@app.callback(
    epilog="Example:  usds ingest raw/ && usds annotate --taxonomy udt.yaml && usds train && usds stats"
)
def usds(
    debug: Annotated[
        bool, typer.Option("--debug", help="Write the log lines of all libraries to the private log.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Raw ultrasound exports -> de-identified, labelled image-text datasets -> Ultrasound-CLIP."""
    errors.quiet_libraries()
    if debug:
        typer.echo(f"debug: logging to {errors.debug_log()}", err=True)


if __name__ == "__main__":
    app()
