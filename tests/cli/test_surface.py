"""The command-line surface is frozen: commands, arguments, options, their short forms and environment.

After a wanted change, run the test once with USDS_RENEW_SURFACE=1 and read the difference of surface.txt.
"""

import os
from pathlib import Path

from usds.cli import main
from usds.cli.commands import COMMANDS, commands

SURFACE = Path(__file__).with_name("surface.txt")


def describe(path, command):
    """One line a parameter of a command, and of the commands below it."""
    for parameter in command.params:
        if parameter.name == "help":
            continue
        names = "/".join([*parameter.opts, *parameter.secondary_opts])
        words = [names if parameter.param_type_name == "option" else parameter.name.upper()]
        words += ["required"] if parameter.required else []
        words += [f"env={parameter.envvar}"] if parameter.envvar else []
        yield f"{path} {' '.join(words)}"
    for name, inner in getattr(command, "commands", {}).items():
        yield from describe(f"{path} {name}", inner)


def surface():
    return [line for name in commands() for line in describe(f"usds {name}", main.load_command(name))]


def test_the_surface_is_the_written_one():
    lines = surface()
    if os.environ.get("USDS_RENEW_SURFACE"):
        SURFACE.write_text("\n".join(lines) + "\n", "utf-8")
    written = SURFACE.read_text("utf-8").splitlines()
    gone, new = sorted(set(written) - set(lines)), sorted(set(lines) - set(written))
    assert not gone, f"taken away or renamed: {gone}"
    assert not new, f"new and not written down: {new}"


def test_data_commands_speak_json():
    silent = {
        name
        for name in commands()
        if not any(line.startswith(f"usds {name}") and "--json" in line for line in surface())
    }
    assert silent == set()


def test_names_are_unique():
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)
