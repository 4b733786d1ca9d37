"""`usds annotate` and `usds taxonomy` as typed."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest


def ok(result):
    assert result.exit_code == 0, result.stderr
    return result


def jsonl(path, *rows):
    Path(path).write_bytes(
        b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)
    )
    return path


def test_the_command_of_the_card_uses_the_bundled_taxonomy_and_says_so(usds, labelled):
    result = ok(usds("annotate", "--taxonomy", "udt.yaml", "--dataset", labelled.root))
    assert "no file udt.yaml here, so the bundled taxonomy udt" in result.stderr
    assert "6 of 6 frames labelled, from 6 captions" in result.stdout
    again = ok(usds("annotate", "--dataset", labelled.root))
    assert again.stderr == ""
    assert "nothing to do: set udt-" in again.stdout


def test_a_file_of_that_name_wins(usds, labelled):
    text = ok(usds("taxonomy", "show", "--yaml")).stdout
    Path("udt.yaml").write_text(text.replace("id: udt", "id: mine", 1))
    result = ok(usds("annotate", "--taxonomy", "udt.yaml", "--dataset", labelled.root, "--json"))
    assert result.stderr == ""
    assert json.loads(result.stdout)["set"].startswith("mine-")


def test_dry_run_and_set_name(usds, labelled):
    assert "would annotate 1 tasks" in ok(usds("annotate", "--dataset", labelled.root, "--dry-run")).stdout
    assert labelled.annotations.names() == []
    ok(usds("annotate", "--dataset", labelled.root, "--set", "first"))
    assert labelled.annotations.current() == "first"
    result = usds("annotate", "--dataset", labelled.root, "--set", "../up")
    assert (result.exit_code, "use letters, digits" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id: x\nversion: '1'\ndimensions: [", "bad.yaml, line"),
        ("id: x\nversion: '1'\ndimensions: []\n", "bad.yaml, line 3"),
        (
            "id: x\nversion: '1'\nname: y\ndimensions:\n- {name: a, title: A, labels: [{name: b}]}\n",
            "line 3: unknown key",
        ),
    ],
)
def test_a_taxonomy_with_an_error_is_one_line_and_writes_nothing(usds, labelled, text, message):
    Path("bad.yaml").write_text(text)
    result = usds("annotate", "--taxonomy", "bad.yaml", "--dataset", labelled.root)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert message in result.stderr
    assert labelled.annotations.names() == []
    assert usds("taxonomy", "validate", "bad.yaml").exit_code == 1


def test_text_without_a_dataset(usds):
    jsonl(
        "in.jsonl",
        {"id": "a", "text": "Ultrasound of the liver shows a simple cyst, no mass."},
        {"id": 7, "text": "zzz"},
    )
    ok(usds("annotate", "--input", "in.jsonl", "--output", "out.jsonl"))
    first, second = (json.loads(line) for line in Path("out.jsonl").read_text("utf-8").splitlines())
    assert list(first) == ["id", "expected", "negated", "uncertain", "abstained"]
    assert first["expected"]["organ"] == ["Liver"]
    assert first["negated"] == {"diagnosis": ["mass"]}
    assert (second["id"], second["expected"], second["abstained"] is not None) == (7, {}, True)


def test_a_dry_run_of_a_file_writes_nothing(usds):
    jsonl("in.jsonl", {"id": 1, "text": "Liver cyst."})
    assert (
        "1 captions would be labelled"
        in ok(usds("annotate", "--input", "in.jsonl", "--output", "out.jsonl", "--dry-run")).stdout
    )
    assert not Path("out.jsonl").exists()


def test_bad_lines_are_named_by_number_and_the_rest_is_labelled(usds):
    jsonl(
        "in.jsonl",
        {"id": 1, "text": "Liver cyst."},
        b"not json\n",
        {"id": 2},
        {"id": 3, "text": "Liver \ud800."},
    )
    result = usds("annotate", "--input", "in.jsonl", "--output", "out.jsonl")
    assert result.exit_code == 3
    assert "in.jsonl, line 2: not JSON" in result.stderr
    assert "in.jsonl, line 3: the key 'text' is missing" in result.stderr
    assert [json.loads(line)["id"] for line in Path("out.jsonl").read_text("utf-8").splitlines()] == [1, 3]


def test_labels_pass_through_a_pipe():
    lines = '{"id": "ä", "text": "Liver cyst."}\n{"id": NaN, "text": "Liver cyst."}\n'.encode()
    command = [sys.executable, "-m", "usds.cli.main", "annotate", "--input", "-", "--output", "-"]
    result = subprocess.run(command, input=lines, capture_output=True, check=False)
    assert result.returncode == 3
    (line,) = result.stdout.decode("utf-8").splitlines()
    assert json.loads(line)["id"] == "ä"
    assert json.loads(line)["expected"]["organ"] == ["Liver"]
    assert result.stderr.decode().splitlines() == [
        "-, line 2: not JSON: NaN is no number in JSON (column 1)",
        "-: 1 captions labelled, 1 bad lines",
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--input", "in.jsonl"], "--input and --output belong together"),
        (["--output", "out.jsonl"], "--input and --output belong together"),
        (["--input", "none.jsonl", "--output", "o"], "no file none.jsonl"),
        (["--input", "-", "--output", "-", "--json"], "leave out --json"),
        (["--evaluate", "none.jsonl"], "no file none.jsonl"),
        (["--explain", "x", "--review", "r.csv"], "--explain and --review exclude each other"),
    ],
)
def test_options_that_do_not_fit_are_named(usds, args, message):
    result = usds("annotate", *args)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr


def test_explain_shows_findings_with_their_rules(usds):
    text = "Simple cyst of the left kidney, no solid mass."
    result = ok(usds("annotate", "--explain", text))
    assert text in result.stdout
    for part in ("cyst", "negated", "diagnosis: mass", "organ: Kidney and ureter", "organ/Kidney and ureter"):
        assert part in result.stdout
    found = json.loads(ok(usds("annotate", "--explain", text, "--json")).stdout)
    assert found["present"]["organ"] == ["Kidney and ureter"]
    assert "abstained" in ok(usds("annotate", "--explain", "asdf qwer zxcv")).stdout


def test_evaluate_prints_scores(usds):
    gold = {"id": "a", "text": "Ultrasound of the liver shows a cyst.", "negated": {}, "uncertain": {}}
    gold["expected"] = {
        "organ": ["Liver"], "body_system": ["Abdomen and retroperitoneum"], "diagnosis": ["mass"],
    }  # fmt: skip
    jsonl("gold.jsonl", gold)
    shown = ok(usds("annotate", "--evaluate", "gold.jsonl")).stdout
    assert "present, micro" in shown
    assert "missed: present diagnosis: mass\n    invented: present diagnosis: cyst" in shown
    found = json.loads(ok(usds("annotate", "--evaluate", "gold.jsonl", "--json")).stdout)
    assert (found["micro"]["tp"], found["micro"]["fp"], found["micro"]["fn"]) == (2, 1, 1)


def test_review_and_apply(usds, labelled, rows):
    frame = rows.frame(frame_id="x", study_id="x", subject_id="x")
    rows.task(labelled, "t2", [frame], [rows.caption("x", "Ultrasound shows a well-defined oval nodule.")])
    root = labelled.root
    assert "has no labels yet" in usds("annotate", "--dataset", root, "--review", "r.csv").stderr
    ok(usds("annotate", "--dataset", root))
    assert "finding without organ 1" in ok(usds("annotate", "--dataset", root, "--review", "r.csv")).stdout
    import csv

    with open("r.csv", encoding="utf-8-sig", newline="") as stream:
        table = list(csv.DictReader(stream))
    next(row for row in table if "oval nodule" in row["text"])["organ"] = "Thyroid gland"
    # As spreadsheets save: semicolons, a byte order mark, columns moved and added, a row deleted.
    kept = [row | {"note": "seen; agreed"} for row in table if "oval nodule" in row["text"]]
    with open("sheet.csv", "w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(reversed(kept[0])), delimiter=";")
        writer.writeheader()
        writer.writerows(kept)
    dry = ok(usds("annotate", "--dataset", root, "--apply", "sheet.csv", "--dry-run"))
    assert "would record 2 corrections" in dry.stdout
    with open("r.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, table[0])
        writer.writeheader()
        writer.writerows(table)
    dry = ok(usds("annotate", "--dataset", root, "--apply", "r.csv", "--dry-run"))
    assert "would record 2 corrections" in dry.stdout
    assert (
        "recorded 2 corrections of 1 captions"
        in ok(usds("annotate", "--dataset", root, "--apply", "r.csv")).stdout
    )
    with labelled.connect() as connection:
        assert connection.execute("SELECT organ FROM annotations WHERE frame_id = 'x'").fetchone() == (
            ["Thyroid gland"],
        )


def test_taxonomy_show_in_every_form(usds):
    assert "Kidney and ureter" in ok(usds("taxonomy", "show")).stdout
    assert "SCT" in ok(usds("taxonomy", "show", "--table")).stdout
    shown = json.loads(ok(usds("taxonomy", "show", "--json", "--dimension", "shape")).stdout)
    assert [d["name"] for d in shown["dimensions"]] == ["shape"]
    assert "did you mean 'shape'" in usds("taxonomy", "show", "--dimension", "shap").stderr
    assert ok(usds("taxonomy", "validate")).stdout.startswith(("udt", "udt.yaml"))


def test_taxonomy_graph_and_similarity(usds, labelled):
    root = labelled.root
    ok(usds("taxonomy", "graph", "--output", "g.graphml"))
    assert Path("g.graphml").read_text("utf-8").startswith("<?xml")
    ok(usds("taxonomy", "graph", "--output", "dry.json", "--dry-run"))
    assert not Path("dry.json").exists()
    assert "has no labels yet" in usds("taxonomy", "graph", "--labels", "--dataset", root).stderr
    ok(usds("annotate", "--dataset", root))
    plain, rich = (
        json.loads(ok(usds("taxonomy", "graph", *args, "--dataset", root, "--json")).stdout)["edges"]
        for args in ([], ["--labels"])
    )
    assert rich > plain
    made = json.loads(
        ok(usds("taxonomy", "graph", "--samples", "g", "--graphml", 1, "--dataset", root, "--json")).stdout
    )
    assert pq.read_table("g/nodes.parquet").num_rows == made["nodes"] > 0
    assert pq.read_table("g/edges.parquet").num_rows == made["edges"] > 0
    assert len(list(Path("g").glob("*.graphml"))) == 1
    again = usds("taxonomy", "graph", "--samples", "g", "--dataset", root)
    assert (again.exit_code, "nothing is overwritten" in again.stderr) == (2, True)
    ok(usds("taxonomy", "similarity", "--mode", "cooccurrence", "--dataset", root, "--output", "s.npz"))
    found = json.loads(
        ok(usds("taxonomy", "similarity", "--mode", "file", "--file", "s.npz", "--json")).stdout
    )
    assert len(found["hash"]) == 64
    assert usds("taxonomy", "similarity", "--mode", "wrong").exit_code == 2


def test_the_graph_and_priors_read_the_labels_that_the_taxonomy_made(usds, labelled):
    text = ok(usds("taxonomy", "show", "--yaml")).stdout
    Path("mine.yaml").write_text(text.replace("id: udt", "id: mine", 1))
    Path("other.yaml").write_text(text.replace("id: udt", "id: other", 1))
    ok(usds("annotate", "--taxonomy", "mine.yaml", "--dataset", labelled.root))
    small = "id: small\nversion: '1'\ndimensions:\n- {name: organ, title: Organ, role: site, labels: [{name: Heart}]}\n"
    Path("small.yaml").write_text(small)
    ok(usds("annotate", "--taxonomy", "small.yaml", "--dataset", labelled.root))
    plain = json.loads(ok(usds("taxonomy", "graph", "mine.yaml", "--json")).stdout)
    told = json.loads(
        ok(usds("taxonomy", "graph", "mine.yaml", "--labels", "--dataset", labelled.root, "--json")).stdout
    )
    assert told["edges"] > plain["edges"]
    result = usds("taxonomy", "graph", "other.yaml", "--labels", "--dataset", labelled.root)
    assert (result.exit_code, "made with the taxonomy 'other'" in result.stderr) == (1, True)
    result = usds(
        "taxonomy",
        "similarity",
        "mine.yaml",
        "--mode",
        "cooccurrence",
        "--set",
        "no",
        "--dataset",
        labelled.root,
    )
    assert (result.exit_code, "no annotation set 'no'" in result.stderr) == (2, True)
