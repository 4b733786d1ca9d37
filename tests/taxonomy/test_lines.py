from __future__ import annotations

import json
import subprocess
import sys
import time
from subprocess import DEVNULL, PIPE

import psutil
import pytest

from usds.taxonomy import lines as module
from usds.taxonomy.lines import BLOCK, LineError, annotate_lines, labels_by_processes, labels_jsonl


def test_order_is_kept_and_bad_lines_are_numbered(extractor):
    lines = [
        '{"id": "a", "text": "Liver cyst."}',
        "not json",
        "",
        '{"id": "b"}',
        b'{"id": 3, "text": "No mass."}',
        "[1]",
    ]
    results = list(annotate_lines(extractor, lines))
    assert [r["id"] if isinstance(r, dict) else r.number for r in results] == ["a", 2, 4, 3, 6]
    assert str(results[2]) == "line 4: the key 'text' is missing"


def test_record_leaves_empty_dimensions_out(extractor):
    (record,) = annotate_lines(extractor, ['{"id": 1, "text": "Hypoechoic nodule without calcification."}'])
    assert record == {
        "id": 1,
        "expected": {"diagnosis": ["nodule"], "echogenicity": ["hypoechoic"]},
        "negated": {"internal_characteristics": ["calcifications"]},
        "uncertain": {},
        "abstained": None,
    }


def test_lone_surrogates_can_be_written(extractor):
    (line,) = labels_jsonl(extractor, ['{"id": "\\ud800", "text": "Liver \\ud800 cyst"}'])
    assert not isinstance(line, LineError)
    assert json.loads(line.encode("utf-8"))["id"] == "\ufffd"


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_worker_processes_give_the_same_bytes_in_order(extractor, monkeypatch, workers):
    monkeypatch.setattr(module, "BLOCK", 300)  # many blocks of few lines
    texts = ["Hypoechoic nodule, no cyst.", "zzz", "Possible abscess of the liver.", ""]
    lines = [json.dumps({"id": i, "text": texts[i % 4]}).encode() + b"\n" for i in range(60)]
    lines[7:7] = [b"\n", b"not json\n"]
    alone = list(labels_jsonl(extractor, lines))
    assert list(labels_by_processes(extractor.taxonomy, iter(lines), workers)) == alone
    assert [line.number for line in alone if isinstance(line, LineError)] == [9]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"id": ' + b"9" * 5000 + b', "text": "Liver"}', "a number with too many digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"id": "\xff"}', "not UTF-8 text (byte 8)"),
    ],
)
def test_lines_that_json_cannot_take_are_named(extractor, line, problem):
    (error,) = labels_jsonl(extractor, [line])
    assert problem in str(error)


def test_a_byte_order_mark_and_surrogates_in_an_id_are_no_obstacle(extractor):
    (line,) = labels_jsonl(extractor, [b'\xef\xbb\xbf{"id": ["\\ud800"], "text": "Liver cyst"}\n'])
    assert not isinstance(line, LineError)
    assert json.loads(line.encode("utf-8"))["id"] == ["\ufffd"]


def test_workers_end_when_their_parent_is_killed():
    command = [sys.executable, "-m", "usds.cli.main", "annotate", "--workers", "2"]
    lines = b'{"id": 1, "text": "Liver cyst."}\n' * (BLOCK // 20)
    with subprocess.Popen([*command, "--input", "-", "--output", "-"], stdin=PIPE, stdout=DEVNULL) as parent:
        assert parent.stdin is not None
        parent.stdin.write(lines)  # and stays open: the parent waits for more
        parent.stdin.flush()
        process = psutil.Process(parent.pid)
        while len(workers := process.children(recursive=True)) < 2:  # a worker, and who tracks for it
            assert parent.poll() is None
            time.sleep(0.1)
        parent.kill()
    for _ in range(600):
        alive = [worker for worker in workers if _lives(worker)]
        if not alive:
            return
        time.sleep(0.2)
    for left in alive:
        left.kill()
    pytest.fail(f"{len(alive)} workers wait on for a parent that is gone")


def _lives(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
