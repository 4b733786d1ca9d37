"""The house rules that no linter knows: which way imports point, what is packaged, how long a module is."""

import ast
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"schemas": 0, "taxonomy": 1, "curation": 2, "model": 2, "cli": 3}
SOURCES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def imported(path):
    """Names of the packages of usds that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        yield from (name.split(".")[1] for name in names if name.startswith("usds."))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_only_go_down(path):
    own = path.relative_to(ROOT).parts[0]
    for other in imported(path):
        assert other == own or FLOORS[other] < FLOORS[own], f"{own} imports {other}"


def test_every_package_is_listed_for_the_wheel():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    found = {
        "usds." + path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for floor in FLOORS
        for path in (ROOT / floor).rglob("__init__.py")
    }
    assert listed == found


def test_every_data_file_is_listed_for_the_wheel():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*"):
            if path.is_dir() or path.suffix in {".py", ".pyc"}:
                continue
            package = "usds." + path.parent.relative_to(ROOT).as_posix().replace("/", ".")
            allowed = [*patterns["*"], *patterns.get(package, [])]
            assert any(path.match(pattern) for pattern in allowed), f"{path} would not reach the wheel"


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_every_floor_says_that_it_is_typed(package):
    assert files(f"usds.{package}").joinpath("py.typed").is_file()


def test_modules_stay_readable():
    long = {
        p.relative_to(ROOT).as_posix(): n
        for p in SOURCES
        if (n := len(p.read_text("utf-8").splitlines())) > 400
    }
    assert long == {}


def test_links_in_the_documents_lead_somewhere():
    import re

    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links {target}"
