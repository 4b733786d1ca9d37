"""Compile the caption extractor where USDS_COMPILE=1 asks for it; all else stands in pyproject.toml.

The compiled modules (mypyc) lie beside their source in the wheel and do the same, faster. Without the
variable the package is pure Python. So is an editable install: compiled modules would hide later edits.
"""

import contextlib
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import setup

# What runs for every caption.
HOT = (
    "actions", "assertion", "context", "coordination", "cues", "direction", "extract", "fuzzy", "gate",
    "keys", "lexicon", "lookback", "mentions", "normalise", "normality", "rules", "scopes",
)  # fmt: skip
COMPILER = "mypy==2.4.1"
ROOT = Path(__file__).parent
STAGE = ROOT / "build" / "mypyc"


def refuse(problem: str) -> None:
    """Stop with a sentence that says what to do."""
    sys.exit(f"USDS_COMPILE=1: {problem}. Or leave USDS_COMPILE out: pure Python gives the same labels.")


def check_machine() -> None:
    """Look for what compiling needs before anything is downloaded."""
    if "editable_wheel" in sys.argv:
        refuse("an editable install is never compiled, as edits would then change nothing: leave out -e")
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or ""  # "" on Windows: setuptools looks
    if command and shutil.which(command.split()[0]) is None:
        refuse(f"no C compiler '{command.split()[0]}': install one (Debian: apt-get install gcc)")
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").is_file():
        refuse(f"no Python.h in {headers}: install them (Debian: apt-get install python3-dev)")


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


compiled = os.environ.get("USDS_COMPILE") == "1"
if compiled:
    check_machine()
setup(
    setup_requires=[COMPILER] if compiled else [],
    ext_modules=extensions() if compiled and {"bdist_wheel", "build_ext"} & set(sys.argv) else [],
)
