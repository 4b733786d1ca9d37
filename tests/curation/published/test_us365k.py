"""A small release in the shape of US-365K, imported by the command, then used by the others."""

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.published_release import write_release

from usds.cli.main import app
from usds.curation.picture_bytes import image_metadata
from usds.curation.published.images import publishable
from usds.curation.published.release import assign_cases, iter_records, read_splits
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError


@pytest.fixture
def usds(tmp_path, monkeypatch, capsys):
    """Run a command in the test's folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as end:
            app([str(word) for word in words])
        return (int(end.value.code or 0), *capsys.readouterr())

    return run


def table(name, columns):
    return Dataset.open(Path("dataset")).arrow(name).to_table(columns=columns).to_pylist()


def rewrite(path, change):
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", "utf-8")


def records(folder, change):
    path = folder / "full_data.json"
    rows = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(change(rows)), "utf-8")


def test_a_release_becomes_a_dataset_with_its_labels_and_split(usds, tmp_path):
    names = write_release(tmp_path / "release")
    code, out, err = usds("import", "us365k", "release", "--json")
    report = json.loads(out)
    assert (code, report["frames"], report["cases"], report["captions"]) == (0, len(names), 10, 9), err
    assert report["no_findings"] == 2  # one case says that nothing is described
    dataset = Dataset.open(Path("dataset"))
    assert dataset.annotations.current() == "us365k"
    with dataset.connect() as connection:
        labelled = connection.execute("SELECT count(*) FROM annotations WHERE organ = ['Liver']").fetchone()
        sides = dict(
            connection.execute(
                "SELECT split, count(*) FROM splits WHERE name = 'published' GROUP BY split"
            ).fetchall()
        )
        origins = connection.execute("SELECT DISTINCT origin, scope FROM captions").fetchall()
    assert labelled
    assert labelled[0] > 0
    assert sides == {"train": 6, "valid": 2, "test": 2}
    assert origins == [("dataset", "clip")]
    # The command that lays its own extraction beside them, and the ones that read the result.
    assert usds("annotate")[0] == 0
    assert set(dataset.annotations.names()) > {"us365k"}
    assert usds("stats", "--json")[0] == 0
    code, out, err = usds("audit", "--json")
    assert not [f for f in json.loads(out)["findings"] if f["klass"] in ("image_metadata", "unknown_file")]


def test_pixels_are_stored_bit_by_bit_without_their_metadata(usds, tmp_path):
    names = write_release(tmp_path / "release")
    first = tmp_path / "release" / "images" / names[0]
    plain = first.read_bytes()
    comment = b"\xff\xfe" + (14).to_bytes(2, "big") + b"DOE^JANE 1960"[:12]
    first.write_bytes(plain[:2] + comment + plain[2:])
    assert usds("import", "us365k", "release")[0] == 0
    stored = [data for _, data in Dataset.open(Path("dataset")).iter_images()]
    assert plain in stored
    assert not any(b"DOE^JANE" in data for data in stored)
    assert all(image_metadata(data) is None for data in stored)


def test_what_cannot_be_used_is_counted_and_the_rest_goes_on(usds, tmp_path):
    folder = tmp_path / "release"
    names = write_release(folder)
    (folder / "images" / names[0]).unlink()
    (folder / "images" / names[1]).write_bytes(b"no picture")
    cut = (folder / "images" / names[2]).read_bytes()
    (folder / "images" / names[2]).write_bytes(cut[: len(cut) // 2])
    rewrite(folder / "train.jsonl", lambda lines: [*lines[:3], '{"image": ', "[1]", *lines[3:], lines[0]])
    records(folder, lambda rows: [{**rows[0], "Organ_level": ["Gizzard"]}, *rows[1:-1]])
    code, out, err = usds("import", "us365k", "release", "--json")
    report = json.loads(out)
    assert code == 3
    assert report["refused"] == {"truncated": 1, "unmatched_sidecar": 1, "unreadable": 1}
    assert report["bad_lines"] == {"train.jsonl": [4, 5]}
    assert report["unknown_labels"] == {"Organ_level: Gizzard": 1}
    assert report["unlabelled"] == 1
    assert "train.jsonl: 2 lines hold no pair {image, caption} (line 4, 5)" in err
    assert "'Organ_level: Gizzard' (1 records)" in err
    assert "1 lines name a picture a second time" in err
    assert report["frames"] == len(names) - 3
    reasons = [row["reason"] for row in table("sources", ["reason"])]
    assert len(reasons) == len(names) + 4  # one row a picture, and one for each other file


def test_an_interrupted_import_goes_on_and_gives_the_same(usds, tmp_path, monkeypatch):
    from usds.curation.published import frames

    monkeypatch.setattr(frames, "_TASK_FRAMES", 4)
    write_release(tmp_path / "release")
    (tmp_path / "key").write_text("ab" * 32)
    looked = []
    look = frames.FrameWriter._look

    def dies(self, pair):
        looked.append(pair.image)
        if len(looked) == 11:
            raise KeyboardInterrupt
        return look(self, pair)

    monkeypatch.setattr(frames.FrameWriter, "_look", dies)
    assert usds("import", "us365k", "release", "--key", "key")[0] == 130
    half = len(Dataset.open(Path("dataset")).manifests())
    assert half >= 1
    monkeypatch.setattr(frames.FrameWriter, "_look", look)
    _, out, _ = usds("import", "us365k", "release", "--json")
    assert 0 < json.loads(out)["done"] < json.loads(out)["pairs"]
    assert usds("import", "us365k", "release", "--key", "key", "--dataset", "whole")[0] == 0
    for name in ("frames", "captions", "sources"):
        one, two = (
            Dataset.open(tmp_path / place).arrow(name).to_table().to_pylist()
            for place in ("dataset", "whole")
        )
        assert sorted(map(str, one)) == sorted(map(str, two))
    assert json.loads(usds("import", "us365k", "release", "--json")[1])["done"] == 0


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        (lambda f: (f / "train.jsonl").unlink(), 2, "has no train.jsonl: name the folder of the release"),
        (lambda f: (f / "full_data.json").unlink(), 2, "which holds the published labels: download it too"),
        (lambda f: (f / "full_data.json").write_text('[{"media_name": "a'), 1, "breaks off or is damaged"),
        (lambda f: (f / "full_data.json").write_text("no json"), 1, "is no list of records"),
        (lambda f: (f / "images.zip").write_bytes(b"PK no zip"), 1, "is no whole ZIP archive"),
        (lambda f: [p.unlink() for p in (f / "images").iterdir()], 2, "holds no picture"),
        (
            lambda f: [(f / f"{s}.jsonl").write_text("{}\n") for s in ("train", "valid", "test")],
            1,
            "no line of",
        ),
    ],
)
def test_a_release_that_is_not_whole_is_refused_and_nothing_is_written(usds, tmp_path, damage, code, message):
    write_release(tmp_path / "release")
    damage(tmp_path / "release")
    found, _, err = usds("import", "us365k", "release")
    assert found == code
    assert message in err
    assert not (tmp_path / "dataset" / "dataset.json").exists()


def test_a_missing_side_is_said_and_val_means_valid(usds, tmp_path):
    write_release(tmp_path / "release")
    (tmp_path / "release" / "valid.jsonl").rename(tmp_path / "release" / "val.jsonl")
    (tmp_path / "release" / "test.jsonl").unlink()
    code, out, err = usds("import", "us365k", "release", "--json")
    assert (code, json.loads(out)["sides"]) == (0, {"train": 6, "valid": 2})
    assert "has no test.jsonl: the split has no side 'test'" in err


def test_a_dataset_of_another_origin_is_left_alone(usds, tmp_path, make_dataset):
    make_dataset()
    write_release(tmp_path / "release")
    before = (tmp_path / "dataset" / "dataset.json").read_bytes()
    code, _, err = usds("import", "us365k", "release")
    assert (code, "was not made by this import: name a new folder with --dataset" in err) == (2, True)
    assert (tmp_path / "dataset" / "dataset.json").read_bytes() == before


def test_pictures_in_an_archive_give_the_same_frames(usds, tmp_path):
    names = write_release(tmp_path / "release")
    images = tmp_path / "release" / "images"
    with zipfile.ZipFile(tmp_path / "release" / "images.zip", "w") as archive:
        for name in names:
            archive.write(images / name, f"0613-1-images-new/{name}")
            (images / name).unlink()
    images.rmdir()
    code, out, _ = usds("import", "us365k", "release", "--json")
    assert (code, json.loads(out)["frames"]) == (0, len(names))


def test_a_corrupt_member_of_an_archive_is_counted_and_the_rest_goes_on(usds, tmp_path):
    names = write_release(tmp_path / "release")
    (first, *_), pictures = names, tmp_path / "release" / "images"
    with zipfile.ZipFile(tmp_path / "release" / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(pictures / name, f"../../up/{name}")
            (pictures / name).unlink()
    whole = bytearray((tmp_path / "release" / "images.zip").read_bytes())
    at = whole.index(first.encode()) + len(first)
    whole[at : at + 8] = b"\xff" * 8  # no block of a deflated stream begins so
    (tmp_path / "release" / "images.zip").write_bytes(whole)
    code, out, err = usds("import", "us365k", "release", "--json")
    assert (code, json.loads(out)["refused"]) == (3, {"unreadable": 1}), err
    assert json.loads(out)["frames"] == len(names) - 1
    assert not (tmp_path / "up").exists()


def test_pictures_behind_a_link_are_found_even_where_links_lead_back(usds, tmp_path):
    names = write_release(tmp_path / "release")
    (tmp_path / "release" / "images").rename(tmp_path / "disk")
    (tmp_path / "release" / "images").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "release")
    code, out, err = usds("import", "us365k", "release", "--json")
    report = json.loads(out)
    assert (code, report["frames"], report["warnings"]) == (0, len(names), []), err


def test_training_cases_that_share_a_picture_with_the_test_side_leave_the_default_split(usds, tmp_path):
    folder = tmp_path / "release"
    names = write_release(folder)
    pictures = {
        json.loads(line)["image"]: "train" for line in (folder / "train.jsonl").read_text().splitlines()
    }
    tested = json.loads((folder / "test.jsonl").read_text().splitlines()[0])["image"]
    trained = next(name for name in names if name in pictures)
    again = cv2.imread(str(folder / "images" / tested))
    cv2.imwrite(str(folder / "images" / trained), again, [cv2.IMWRITE_JPEG_QUALITY, 70])
    _, out, err = usds("import", "us365k", "release", "--json")
    report = json.loads(out)
    assert report["excluded"] == {"train": 1}
    assert report["sides"] == {"train": 5, "valid": 2, "test": 2, "excluded": 1}
    assert "the published split leaks" in err


def test_cases_come_from_the_record_else_from_what_file_names_share(tmp_path):
    write_release(tmp_path / "release")
    pairs = read_splits(tmp_path / "release").pairs
    cases = {pair.image: pair for pair in assign_cases(pairs, {pairs[0].image: "7941.json"})}
    assert cases[pairs[0].image].rule == "sidecar"
    assert len({pair.case for pair in cases.values() if pair.rule == "file_name"}) == 10
    one, two, three = (
        pairs[0].__class__(name, "x", "train") for name in ("1_7_aaa.jpg", "2_7_bbb.jpg", "3_8_bbb.jpg")
    )
    assert len({pair.case for pair in assign_cases([one, two, three], {})}) == 1


@pytest.mark.parametrize("shape", ["list", "keyed", "wrapped"])
def test_records_are_streamed_from_every_shape_of_the_file(tmp_path, monkeypatch, shape):
    from usds.curation.published import release

    monkeypatch.setattr(release, "_CHUNK", 7)  # every value crosses the window's edge
    rows = [{"media_name": f"{i}.jpg", "Organ_level": ["Liver", "ü"], "n": i} for i in range(5)]
    content = {"list": rows, "keyed": {r["media_name"]: r for r in rows}, "wrapped": {"data": rows}}[shape]
    (tmp_path / "full_data.json").write_text(json.dumps(content, indent=2), "utf-8")
    assert [record for _, record in iter_records(tmp_path / "full_data.json")] == rows
    (tmp_path / "full_data.json").write_text(json.dumps(content)[:-20], "utf-8")
    with pytest.raises(ContentError, match="breaks off"):
        list(iter_records(tmp_path / "full_data.json"))


def test_a_damaged_record_is_not_looked_for_to_the_end_of_a_long_file(tmp_path, monkeypatch):
    path = tmp_path / "full_data.json"
    path.write_text('[{"media_name": ' + "x" * 1000, "utf-8")
    monkeypatch.setattr("usds.curation.published.release._CHUNK", 10)
    monkeypatch.setattr("usds.curation.published.release._LONGEST_RECORD", 50)
    with pytest.raises(ContentError, match=r"full_data\.json breaks off or is damaged after character 1:"):
        list(iter_records(path))


def test_a_byte_order_mark_is_no_damage(tmp_path):
    for name, text in (("train.jsonl", '{"image": "a.jpg", "caption": "Cyst."}'), ("full_data.json", "[{}]")):
        (tmp_path / name).write_text(text, "utf-8-sig")
    assert [pair.image for pair in read_splits(tmp_path).pairs] == ["a.jpg"]
    assert list(iter_records(tmp_path / "full_data.json")) == [("", {})]


def test_words_between_the_scans_of_a_progressive_jpeg_and_behind_its_end_are_cut_out():
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    plain = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    second = plain.index(b"\xff\xda", plain.index(b"\xff\xda") + 2)
    table = plain.rindex(b"\xff\xc4", 0, second)
    comment = b"\xff\xfe\x00\x0aDOE^JANE"
    found = publishable(plain[:table] + comment + plain[table:] + b"DOE^JANE" + plain)
    assert isinstance(found, tuple)
    assert found[0] == plain


def test_a_bomb_is_refused_by_its_header_before_it_is_unpacked(monkeypatch):
    picture = cv2.imencode(".png", np.zeros((8192, 8200), np.uint8))[1].tobytes()
    monkeypatch.setattr("usds.curation.published.images._decode", None)
    assert publishable(picture) == "too_large"


def test_other_formats_are_encoded_anew_and_turned_jpegs_are_turned():
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (40, 60, 3), np.uint8), (0, 0), 2)
    bmp = cv2.imencode(".bmp", picture)[1].tobytes()
    stored, rgb = publishable(bmp)
    assert stored.startswith(b"\xff\xd8")
    assert rgb.shape == (40, 60, 3)
    png = cv2.imencode(".png", picture)[1].tobytes()
    text = len(b"Name\0DOE").to_bytes(4, "big") + b"tEXtName\0DOE" + b"\0\0\0\0"
    assert publishable(png[:33] + text + png[33:])[0] == png
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    stored, rgb = publishable(turned)
    assert rgb.shape == (60, 40, 3)
    assert image_metadata(stored) is None
