"""One extractor for all tests: it is immutable, and building it takes a moment."""

from __future__ import annotations

import pytest

from usds.taxonomy.extract import Extractor
from usds.taxonomy.udt import Taxonomy, load_taxonomy


@pytest.fixture(scope="session")
def udt() -> Taxonomy:
    return load_taxonomy("udt")


@pytest.fixture(scope="session")
def extractor(udt: Taxonomy) -> Extractor:
    return Extractor(udt)
