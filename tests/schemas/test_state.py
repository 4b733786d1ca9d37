"""The private state: its key, its ledger, its modes, and what it refuses."""

import sqlite3
from contextlib import closing

import pytest

from usds.schemas import state
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.state import State

KEY = bytes(range(32))


def test_create_makes_a_private_folder_and_open_finds_it(private_state_home):
    made = State.create("abc")
    assert made.folder == private_state_home / "abc"
    assert made.folder.stat().st_mode & 0o777 == 0o700
    assert (made.folder / "key").stat().st_mode & 0o777 == 0o600
    assert State.open("abc", state.fingerprint(made.key)).key == made.key
    assert State.create("other").key != made.key


def test_a_second_state_for_one_dataset_is_refused():
    State.create("abc")
    with pytest.raises(ContentError, match="exists already"):
        State.create("abc")


def test_a_missing_key_is_refused_with_what_to_do():
    with pytest.raises(
        ContentError, match=r"the key of this dataset is missing: .*Restore the private state"
    ):
        State.open("none", "f")


def test_another_key_is_refused():
    State.create("abc", KEY)
    with pytest.raises(ContentError, match=f"has fingerprint {state.fingerprint(KEY)}, the dataset was made"):
        State.open("abc", "0" * 16)


def test_the_fingerprint_does_not_give_the_key_away():
    assert state.fingerprint(KEY) not in KEY.hex()
    assert len(state.fingerprint(KEY)) == 16


@pytest.mark.parametrize("content", ["", "xyz", "00" * 33, "00" * 31])
def test_a_key_file_holds_64_hexadecimal_digits(tmp_path, content):
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"is no readable key file|bits, a key has 256"):
        state.read_key_file(path)


def test_an_unwritable_home_is_a_usage_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("USDS_STATE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"cannot be written .*: set USDS_STATE to a folder of yours"):
        State.create("abc")


def test_documents_and_logs_are_private():
    made = State.create("abc")
    made.write("plan", {"a": 1})
    made.log("ingest", "one")
    made.log("ingest", "two\n")
    assert made.read("plan") == {"a": 1}
    assert made.read("nothing") is None
    log = made.folder / "logs" / "ingest.log"
    assert log.read_text() == "one\ntwo\n"
    assert {p.stat().st_mode & 0o777 for p in (log, made.folder / "plan.json")} == {0o600}


def test_the_ledger_finds_sources_and_forgets_a_subject():
    made = State.create("abc")
    made.record_sources([{"source_key": "k1", "path": "raw/a.dcm", "subject_id": "s1"}])
    made.record_subjects([("s1", "name", "DOE^JANE"), ("s1", "name", "DOE^JANE"), ("s2", "id", "77")])
    assert made.locate("k1")[0]["path"] == "raw/a.dcm"
    assert made.locate("s1")[0]["source_key"] == "k1"
    assert made.locate("nothing") == []
    made.withdraw(["s1"])
    assert made.withdrawn() == {"s1"}
    with made.ledger() as ledger:
        assert ledger.execute("SELECT subject_id FROM subjects").fetchall() == [("s2",)]
    assert (made.folder / "ledger.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_failed_ledger_block_changes_nothing():
    made = State.create("abc")
    with pytest.raises(sqlite3.OperationalError, match="no such table"), made.ledger() as ledger:
        ledger.executescript("BEGIN; INSERT INTO withdrawn VALUES ('s1'); INSERT INTO nowhere VALUES (1)")
    assert made.withdrawn() == frozenset()


def test_wiping_empties_the_logs_though_others_have_the_databases_open(made_ledger):
    made, other = made_ledger
    assert any(b"Quillfeather" in path.read_bytes() for path in made.folder.glob("*.sqlite*"))
    made.wipe_databases()
    assert not any(b"Quillfeather" in path.read_bytes() for path in made.folder.glob("*.sqlite*"))
    assert other.execute("SELECT count(*) FROM subjects").fetchone() == (0,)


def test_wiping_says_when_a_reader_keeps_what_was_forgotten(made_ledger, monkeypatch):
    made, other = made_ledger
    monkeypatch.setattr(state, "TIMEOUT_S", 0.05)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM subjects").fetchone()
    made.record_subjects([("s2", "name", "Brecht")])
    with pytest.raises(
        ContentError, match=r"another program reads .*ledger\.sqlite.*: end it and run the same"
    ):
        made.wipe_databases()
    other.rollback()
    made.wipe_databases()


@pytest.fixture
def made_ledger():
    """A state whose subject withdrew while another connection has the ledger open."""
    made = State.create("abc")
    made.record_subjects([("s1", "name", "Quillfeather")])
    with closing(sqlite3.connect(made.folder / "ledger.sqlite", isolation_level=None)) as other:
        other.execute("SELECT count(*) FROM subjects").fetchone()
        made.record_subjects([("s1", "name", "Quillfeather^Orsola")])
        made.withdraw(["s1"])
        yield made, other
