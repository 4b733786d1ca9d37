"""The review page: what it shows, what it keeps, who may ask; in a real browser where one is installed."""

import json
import socket
import threading
import urllib.error
import urllib.request

import pytest

from usds.curation.annotate import AnnotateSettings, annotate_dataset
from usds.curation.corrections import Correction, read_corrections
from usds.curation.review_page import ReviewSession
from usds.curation.review_server import ReviewServer
from usds.schemas.dataset import DatasetLocked
from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.udt import load_taxonomy

TEXTS = {
    "homeless": "Ultrasound shows a well-defined oval nodule.",
    "astral": "Ultrasound \U0001fa7b shows an oval nodule. <b>No cyst</b>.",
    "plain": "Ultrasound of the liver shows a simple anechoic cyst.",
}


@pytest.fixture
def dataset(make_dataset, rows):
    frames = [rows.frame(frame_id=name, study_id=name, subject_id=name) for name in TEXTS]
    captions = [rows.caption(name, text, caption_id=f"c-{name}") for name, text in TEXTS.items()]
    made = make_dataset(tasks={"t1": (frames, captions)})
    annotate_dataset(made, load_taxonomy("udt"))
    return made


@pytest.fixture
def session(dataset):
    return ReviewSession(dataset)


@pytest.fixture
def server(session):
    running = ReviewServer(session)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def ask(url, body=None, headers=None):
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers or {})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def organs(dataset):
    with dataset.connect() as connection:
        return dict(connection.execute("SELECT frame_id, organ FROM annotations").fetchall())


def test_only_captions_in_doubt_are_shown_or_all_when_asked_for(dataset, session):
    assert {entry["id"] for entry in session.overview()["captions"]} == {"c-homeless", "c-astral"}
    assert len(ReviewSession(dataset, every=True)) == 3
    short = ReviewSession(dataset, every=True, limit=1)
    assert (len(short), short.is_cut) == (1, True)


def test_a_caption_comes_with_its_findings_and_frames(session):
    shown = session.caption("c-astral")
    points = list(shown["text"])
    found = {("".join(points[start:end]), assertion) for start, end, assertion in shown["spans"]}
    assert {("oval", "present"), ("nodule", "present"), ("cyst", "negated")} <= found
    assert shown["labels"]["negated"] == ["diagnosis: cyst"]
    assert shown["frames"] == ["astral"]
    assert session.picture("astral")[:2] == b"\xff\xd8"


def test_a_save_is_kept_at_once_and_reaches_the_frames_in_the_end(dataset, session):
    labels = session.caption("c-homeless")["labels"]
    answer = session.save("c-homeless", {**labels, "organ": ["thyroid gland"], "shape": []})
    assert answer["labels"]["body_system"] == ["Head and Neck"]
    target, caption = "homeless", "c-homeless"
    assert read_corrections(dataset) == [
        Correction(target, caption, "shape", "oval", "remove", "present"),
        Correction(target, caption, "body_system", "Head and Neck", "add", "present"),
        Correction(target, caption, "organ", "Thyroid gland", "add", "present"),
    ]
    assert organs(dataset)["homeless"] == []
    session.finish(AnnotateSettings(workers=1))
    assert organs(dataset)["homeless"] == ["Thyroid gland"]


def test_a_second_save_corrects_the_first(dataset, session):
    labels = session.caption("c-homeless")["labels"]
    saved = session.save("c-homeless", {**labels, "organ": ["Liver"]})["labels"]
    again = session.save("c-homeless", saved)
    assert again["corrections"] == 0
    session.save("c-homeless", {**saved, "organ": [], "body_system": []})
    session.finish(AnnotateSettings(workers=1))
    assert organs(dataset)["homeless"] == []


def test_a_caption_confirmed_as_it_is_writes_nothing(dataset, session):
    session.save("c-homeless", session.caption("c-homeless")["labels"])
    assert session.overview()["captions"][0]["saved"] or session.overview()["captions"][1]["saved"]
    assert read_corrections(dataset) == []
    assert session.finish(AnnotateSettings()) is None


def test_what_there_is_not_is_refused_and_nothing_is_written(dataset, session):
    with pytest.raises(UsageError, match="no label 'lver'; did you mean 'Liver'"):
        session.save("c-homeless", {"organ": ["lver"]})
    with pytest.raises(UsageError, match="no dimension 'texture'"):
        session.save("c-homeless", {"texture": ["rough"]})
    with pytest.raises(UsageError, match="'c-plain' is not among those to look at"):
        session.save("c-plain", {})
    with pytest.raises(ContentError, match="no frame nobody"):
        session.picture("nobody")
    assert read_corrections(dataset) == []


def test_a_writer_elsewhere_is_named(dataset, session):
    with dataset.lock("usds ingest raw/"), pytest.raises(DatasetLocked, match="usds ingest"):
        session.save("c-homeless", {"organ": ["Liver"]})
    assert session.saved == 0


def test_only_who_holds_the_link_gets_an_answer(server):
    assert ask(server.address)[0] == 200
    root = f"http://127.0.0.1:{server.server_port}/"
    for path in ("", "overview", "x" * 22 + "/overview", f"{server.secret[:-1]}/overview"):
        assert ask(root + path)[0] == 404
    other_name = {"Host": f"attacker.example:{server.server_port}"}
    assert ask(f"{server.address}overview", headers=other_name)[0] == 404
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"organ": "Liver"}', b'{"organ": [1]}', b"\xff\xfe", b"[" * 99_999]
)
def test_a_malformed_request_is_refused(server, dataset, body):
    status, answer = ask(f"{server.address}caption/c-homeless", body)
    assert status == 400
    assert json.loads(answer)["error"] in (
        "labels are lists of words by dimension, as JSON",
        "what is sent must be a JSON object",
    )
    assert read_corrections(dataset) == []


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET http://[x HTTP/1.0", b"404"),
        (b"GET * HTTP/1.0", b"404"),
        (b"POST /SECRET/caption/c-homeless HTTP/1.0\r\nHost: HOST\r\nContent-Length: \xb2", b"400"),
        (b"POST /SECRET/caption/c-homeless HTTP/1.0\r\nHost: HOST\r\nContent-Length: " + b"9" * 5000, b"400"),
    ],
)
def test_a_strange_request_gets_an_answer_and_the_terminal_stays_quiet(server, capfd, request_line, status):
    host = f"127.0.0.1:{server.server_port}".encode()
    line = request_line.replace(b"SECRET", server.secret.encode()).replace(b"HOST", host)
    with socket.create_connection(server.server_address) as connection:
        connection.sendall(line + b"\r\n\r\n")
        assert connection.recv(12)[9:] == status
    assert capfd.readouterr().err == ""


def test_a_damaged_shard_is_told_to_the_page_and_not_to_the_terminal(server, dataset, capfd):
    (shard,) = dataset.paths("images")
    shard.write_bytes(b"PAR1" + bytes(100))
    status, answer = ask(f"{server.address}image/plain")
    assert (status, json.loads(answer)["error"][:16]) == (500, "unexpected error")
    assert ask(f"{server.address}caption/c-homeless")[0] == 200
    assert capfd.readouterr().err == ""


def test_errors_come_as_words(server):
    status, answer = ask(f"{server.address}caption/c-homeless", {"organ": ["lver"]})
    assert status == 409
    assert "did you mean 'Liver'" in json.loads(answer)["error"]
    assert ask(f"{server.address}image/%2e%2e%2fdataset.json")[0] == 404


def test_a_person_corrects_a_caption_in_the_browser(browser, server, dataset):
    page = browser.new_page()
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(server.address)
    page.wait_for_selector("#labels tr")
    with page.expect_response("**/caption/*"):
        page.select_option("#reason", "finding without organ")
    with page.expect_response("**/caption/c-homeless"):
        page.click("nav li:has-text('Ultrasound shows a well-defined')")
    page.wait_for_selector("#text:has-text('well-defined oval') mark:has-text('nodule')")
    # `decode` waits for the picture; the network may have been idle before the picture was asked for.
    shown = "all => Promise.all(all.map(i => i.decode().then(() => i.naturalWidth > 0)))"
    assert page.locator(".frames img").evaluate_all(shown) == [True]
    organ = page.locator("input[aria-label='Add to organ']")
    organ.fill("livre")
    organ.press("Tab")
    page.wait_for_selector("[role=alert]:has-text('is no label of organ')")
    organ.fill("liver")
    organ.press("Tab")
    page.click(".chip:has-text('oval') button[title='Remove oval']")
    page.click("#save")
    page.wait_for_selector("nav li.saved")
    page.click("nav li:has-text('Ultrasound \U0001fa7b')")
    # Markup of a caption is text, and marks stand right behind characters of two UTF-16 units.
    page.wait_for_selector("mark.negated:has-text('cyst')")
    assert "<b>No cyst</b>" in page.inner_text("#text")
    page.click("#finish")
    page.wait_for_selector("#done")
    assert problems == []
    assert [(c.dimension, c.label, c.action) for c in read_corrections(dataset)] == [
        ("shape", "oval", "remove"),
        ("body_system", "Abdomen and retroperitoneum", "add"),
        ("organ", "Liver", "add"),
    ]


def test_the_link_a_browser_is_started_with_works_once(server):
    status, data = ask(server.ticket)
    assert (status, b"Review labels" in data) == (200, True)
    status, data = ask(server.ticket)
    assert status == 410
    assert b"if it was not you who opened it, end the review with Ctrl-C" in data
    assert ask(server.ticket, headers={"Host": "evil.example"})[0] == 404
    assert ask(f"{server.address}overview")[0] == 200
