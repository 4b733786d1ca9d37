"""split, stats, sql, show and doctor as typed."""

import json
import re

import pytest

from usds.schemas.state import State


def ok(result):
    assert result.exit_code == 0, result.stderr
    return result


def test_stats_before_anything_else_says_what_is_missing(usds, labelled):
    result = ok(usds("stats", "--dataset", labelled.root))
    assert "frames" in result.stdout
    assert (
        result.stderr
        == "note: no labels yet: run `usds annotate`\nnote: no split 'default' yet: run `usds split`\n"
    )


def test_stats_as_json_and_html(usds, labelled):
    result = ok(usds("stats", "--dataset", labelled.root, "--json", "--html", "r.html"))
    assert json.loads(result.stdout)["totals"]["frames"] == 6
    with open("r.html", encoding="utf-8") as stream:
        assert stream.read().startswith("<!doctype html>")


def test_the_dataset_of_the_environment_is_taken(usds, labelled, monkeypatch):
    monkeypatch.setenv("USDS_DATASET", str(labelled.root))
    ok(usds("stats"))


def test_split_places_says_so_and_checks(usds, labelled):
    root = labelled.root
    assert "would place 6 new subjects" in ok(usds("split", "--dataset", root, "--dry-run")).stdout
    assert labelled.split_names() == []
    result = json.loads(ok(usds("split", "--dataset", root, "--json")).stdout)
    assert sum(result["subjects"].values()) == 6
    assert "placed 0 new subjects, kept 6" in ok(usds("split", "--dataset", root)).stdout
    assert "no subject and no near-duplicate" in ok(usds("split", "--dataset", root, "--check")).stdout


def test_a_leak_makes_the_check_fail(usds, labelled):
    labelled.write_split("bad", [{"subject_id": "s0", "split": s} for s in ("train", "test")])
    result = usds("split", "--dataset", labelled.root, "--name", "bad", "--check")
    assert result.exit_code == 1
    assert "split 'bad' leaks in 1 places (subject)" in result.stderr


def test_split_settings_come_from_file_and_options(usds, labelled, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("split:\n  trian: 0.5\n")
    result = usds("split", "--dataset", labelled.root, "--config", config)
    assert result.exit_code == 2
    assert "unknown setting 'trian'; did you mean 'train'?" in result.stderr
    result = usds("split", "--dataset", labelled.root, "--train", "0.5")
    assert result.exit_code == 2
    assert result.stderr == "error: settings: train, valid and test must add up to 1\n"


def test_whoever_was_handed_the_dataset_without_its_key_splits_it_too(usds, labelled, private_state_home):
    key = private_state_home / labelled.info.dataset_id / "key"
    key.unlink()
    ok(usds("split", "--dataset", labelled.root))
    first = labelled.splits().to_pylist()
    assert {row["split"] for row in first} == {"train", "valid", "test"}
    (labelled.root / "splits" / "default.parquet").unlink()
    ok(usds("split", "--dataset", labelled.root))
    assert labelled.splits().to_pylist() == first
    assert "the key of this dataset is missing" in usds("locate", "x", "--dataset", labelled.root).stderr


def test_split_with_the_key_of_another_dataset_is_refused(usds, labelled, private_state_home):
    (private_state_home / labelled.info.dataset_id / "key").unlink()
    State.create(labelled.info.dataset_id)
    assert "ids of another key would not match" in usds("split", "--dataset", labelled.root).stderr


def test_stats_name_the_command_that_makes_the_split_asked_for(usds, labelled):
    result = ok(usds("stats", "--dataset", labelled.root, "--split", "wide"))
    assert "no split 'wide' yet: run `usds split --name wide`\n" in result.stderr


def test_stats_print_redacted_shares_as_percent(usds, labelled):
    stdout = ok(usds("stats", "--dataset", labelled.root)).stdout
    assert re.search(r"largest redacted fraction +\d+\.\d\d%", stdout)


@pytest.mark.parametrize("command", [["stats"], ["split"], ["annotate"], ["sql", "SELECT 1"], ["show", "f"]])
def test_a_folder_that_is_no_dataset_is_one_line(usds, command, tmp_path):
    missing = usds(*command)
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
    assert "no dataset at dataset: make one with `usds ingest RAW`" in missing.stderr
    wrong = usds(*command, "--dataset", tmp_path)
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (1, 1)
    assert "is not a usds dataset" in wrong.stderr


def test_another_format_version_is_refused(usds, labelled):
    path = labelled.root / "dataset.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 7'))
    result = usds("stats", "--dataset", labelled.root)
    assert result.exit_code == 1
    assert "has format version 7, this usds reads version 1" in result.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) AS n FROM frames", "WITH a AS (SELECT 1 AS n) SELECT * FROM a", "DESCRIBE frames",
        "EXPLAIN SELECT 1", "explain analyze select 1", "FROM captions", "SUMMARIZE frames",
    ],
)  # fmt: skip
def test_sql_answers_questions(usds, labelled, statement):
    assert ok(usds("sql", statement, "--dataset", labelled.root)).stdout


def test_sql_as_json_and_csv(usds, labelled):
    query = "SELECT frame_id, [1, 2] AS l, DATE '2020-01-02' AS d FROM frames ORDER BY 1 LIMIT 1"
    result = ok(usds("sql", query, "--dataset", labelled.root, "--json"))
    assert json.loads(result.stdout) == [{"frame_id": "f0", "l": [1, 2], "d": "2020-01-02"}]
    result = ok(usds("sql", "SELECT 'a,b' AS x", "--dataset", labelled.root, "--csv"))
    assert result.stdout == 'x\n"a,b"\n'


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DROP VIEW frames", "only SELECT, EXPLAIN and DESCRIBE are allowed, not DROP"),
        ("CREATE TABLE t (a INT)", "not CREATE"),
        ("INSERT INTO x VALUES (1)", "not INSERT"),
        ("COPY frames TO 'x.csv'", "not COPY"),
        ("SET threads = 1", "not"),
        ("PRAGMA database_list", "not PRAGMA"),
        ("ATTACH 'x.db'", "not ATTACH"),
        ("EXPLAIN ANALYZE CREATE TABLE t (a INT)", "not CREATE"),
        ("EXPLAIN ANALYZE /* x */ DELETE FROM t", "not DELETE"),
        ("SELECT 1; SELECT 2", "expected one statement, got 2"),
        ("", "expected one statement, got 0"),
        ("SELEC 1", "Parser Error"),
        ("SELECT nothing FROM frames", "Binder Error"),
        ("SELECT * FROM read_text('/etc/hostname')", "Permission Error"),
        ("SELECT * FROM '/etc/hostname'", "Error"),
        ("SELECT getenv('HOME')", "Error"),
    ],
)
def test_sql_does_nothing_else(usds, labelled, statement, message):
    result = usds("sql", statement, "--dataset", labelled.root)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_show_prints_facts_and_saves_the_picture(usds, labelled):
    result = ok(usds("show", "f3", "--dataset", labelled.root, "--save", "f.jpg"))
    assert "Thyroid ultrasound shows a nodule." in result.stdout
    with open("f.jpg", "rb") as stream:
        assert stream.read() == labelled.read_pixels(["f3"])["f3"]
    ok(usds("annotate", "--dataset", labelled.root))
    shown = json.loads(ok(usds("show", "f3", "--dataset", labelled.root, "--json")).stdout)
    assert shown["labels"]["organ"] == ["Thyroid gland"]
    assert {row["surface"] for row in shown["evidence"]} >= {"nodule"}
    assert "Thyroid gland" in ok(usds("show", "f3", "--dataset", labelled.root)).stdout


def test_show_takes_the_beginning_of_an_id_that_is_unique(usds, labelled):
    assert "several frame ids: type more of it" in usds("show", "f", "--dataset", labelled.root).stderr
    assert "no frame 'zz'" in usds("show", "zz", "--dataset", labelled.root).stderr


def test_doctor_finds_the_key_and_the_folders(usds, labelled, monkeypatch, private_state_home):
    result = usds("doctor", "--dataset", labelled.root, "--json")
    found = {(c["group"], c["name"]): c for c in json.loads(result.stdout)["checks"]}
    assert found["key", "dataset"]["status"] == "ok"
    assert found["OCR", "text detection model"]["status"] == "ok"
    assert found["DICOM", "JPEG lossless"]["status"] == "ok"
    (private_state_home / labelled.info.dataset_id / "key").unlink()
    result = usds("doctor", "--dataset", labelled.root)
    assert result.exit_code == 1
    assert "the key of this dataset is missing" in " ".join(result.stdout.split())


def test_doctor_warns_of_the_demo_key(usds, tmp_path):
    from hashlib import sha256

    from usds.schemas.dataset import Dataset
    from usds.schemas.state import DEMO_FINGERPRINT

    State.create("demo", sha256(b"usds demo key: public, for examples and benchmarks").digest())
    Dataset.create(
        tmp_path / "demo", key_fingerprint=DEMO_FINGERPRINT, tool="t", detector="d", settings={},
        settings_hash="h", dataset_id="demo",
    )  # fmt: skip
    result = usds("doctor", "--dataset", tmp_path / "demo", "--json")
    key = next(c for c in json.loads(result.stdout)["checks"] if c["group"] == "key")
    assert (key["status"], "public demo key" in key["detail"]) == ("warning", True)


def test_a_damaged_table_says_so_and_what_to_do(labelled, capsys):
    from usds.cli.errors import guarded
    from usds.cli.main import app

    labelled.paths("frames")[0].write_bytes(b"PAR1 nothing PAR1")
    assert guarded(lambda: app(["stats", "--dataset", str(labelled.root)], standalone_mode=False)) == 1
    error = capsys.readouterr().err
    assert "a file of the dataset is damaged or was changed by hand; `usds audit` names it" in error
    assert "unexpected" not in error
