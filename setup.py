"""Compile the caption extractor where the machine can; all else stands in pyproject.toml.

The compiled modules (mypyc) lie beside their source in the wheel and do the same, faster. Where there is no
compiler, or compiling fails, the package is pure Python. USDS_COMPILE=1 makes that an error that says what is
missing, USDS_COMPILE=0 does not try. An editable install is always pure: compiled modules would hide edits.
"""

import contextlib
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

# What runs for every caption.
HOT = (
    "actions", "assertion", "context", "coordination", "cues", "direction", "extract", "fuzzy", "gate",
    "keys", "lexicon", "lookback", "mentions", "normalise", "normality", "rules", "scopes",
)  # fmt: skip
COMPILER = "mypy==2.4.1"
ROOT = Path(__file__).parent
STAGE = ROOT / "build" / "mypyc"
WANTED = os.environ.get("USDS_COMPILE", "")
MUST = WANTED == "1"


def missing() -> str:
    """Why this machine cannot compile, looked for before anything is downloaded; "" where it can."""
    if "editable_wheel" in sys.argv:
        return "an editable install is never compiled, as edits would then change nothing: leave out -e"
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or ""  # "" on Windows: setuptools looks
    if command and shutil.which(command.split()[0]) is None:
        return f"no C compiler '{command.split()[0]}': install one (Debian: apt-get install gcc)"
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").is_file():
        return f"no Python.h in {headers}: install them (Debian: apt-get install python3-dev)"
    return ""


def stay_pure(problem: object) -> None:
    """Go on without compiling, or stop where compiling was asked for; say why either way."""
    if MUST:
        sys.exit(f"USDS_COMPILE=1: {problem}. Or leave USDS_COMPILE out: pure Python gives the same labels.")
    print(f"usds stays pure Python, which gives the same labels: {problem}", file=sys.stderr)


def extensions() -> list:
    """The hot modules, translated to C under the names that they are installed by."""
    from mypyc.build import mypycify

    # mypyc takes the name of a module from its folder, so the folders are laid out as they are installed.
    # Tracebacks then name usds/taxonomy/... and the line.
    shutil.rmtree(STAGE, ignore_errors=True)
    for folder in ("taxonomy", "schemas"):
        shutil.copytree(ROOT / folder, STAGE / "usds" / folder, ignore=shutil.ignore_patterns("data"))
    options = ["--explicit-package-bases", "--ignore-missing-imports", "--follow-imports=silent"]
    paths = [f"usds/taxonomy/{name}.py" for name in HOT]
    with contextlib.chdir(STAGE):
        return mypycify(
            [*options, *paths], target_dir=str(STAGE), group_name="usds", opt_level="3", debug_level="0"
        )


class BuildAllOrNone(build_ext):
    """Compiled modules need each other: where one cannot be built, none is kept."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:  # noqa: BLE001 - distutils has a class for each way to fail
            stay_pure(f"the C compiler failed ({type(error).__name__}; its output stands above)")
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []


def modules() -> list:
    """What to compile: nothing where nothing can be, or where translating fails."""
    if not {"bdist_wheel", "build_ext"} & set(sys.argv):
        return []
    try:
        return extensions()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - mypyc ends the process at a mistake
        stay_pure(f"mypyc failed ({type(error).__name__}: {error})")
        return []


problem = "" if WANTED == "0" else missing()
if problem and (MUST or "bdist_wheel" in sys.argv):
    stay_pure(problem)
compiling = WANTED != "0" and not problem
setup(
    setup_requires=[COMPILER] if compiling else [],
    ext_modules=modules() if compiling else [],
    cmdclass={"build_ext": BuildAllOrNone},
)
