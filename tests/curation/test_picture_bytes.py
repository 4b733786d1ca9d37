"""Every byte of a stored picture belongs to the picture: hiding places, one by one."""

import io

import cv2
import numpy as np
import pytest
from conftest import speckle
from PIL import Image, PngImagePlugin

from usds.curation.picture_bytes import image_metadata, parts_of, picture_alone, whole_blocks

ROWS, COLS = 75, 90  # neither is a multiple of a block


def picture():
    return cv2.GaussianBlur(np.random.default_rng(3).integers(0, 256, (ROWS, COLS, 3), np.uint8), (3, 3), 1)


def encoded(kind="JPEG", mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(file, kind, **options)
    return file.getvalue()


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


SOUND = {
    "baseline": encoded(quality=95, subsampling=0),
    "subsampled": encoded(quality=75, subsampling=2),
    "progressive": encoded(quality=75, progressive=True, subsampling=0),
    "progressive subsampled": encoded(quality=75, progressive=True),
    "grey": encoded(mode="L"),
    "restart markers": encoded(restart_marker_rows=1),
    "fill bytes": encoded()[:2] + b"\xff\xff" + encoded()[2:],
    "of the ingest": speckle(1),
    **{f"PNG {mode}": encoded("PNG", mode) for mode in ("RGB", "L", "P", "1", "RGBA")},
}
COMMENT = b"\xff\xfe\x00\x0eWinterbottom"


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_picture_is_nothing_but_picture(name):
    data = SOUND[name]
    assert image_metadata(data) is None
    assert picture_alone(data) == data
    parts = list(parts_of(data))
    assert [part.start for part in parts] == [0, *(part.end for part in parts[:-1])]
    assert parts[-1].end == len(data)


def _between_scans(data):
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    return data[:second] + COMMENT + data[second:]


def _longer_table(data):
    at = data.index(b"\xff\xdb")
    size = int.from_bytes(data[at + 2 : at + 4], "big")
    return (
        data[: at + 2] + (size + 12).to_bytes(2, "big") + data[at + 4 : at + 2 + size]
        + b"Winterbottom" + data[at + 2 + size :]
    )  # fmt: skip


def _png_with(**words):
    info = PngImagePlugin.PngInfo()
    for key, value in words.items():
        info.add_text(key, value)
    return encoded("PNG", pnginfo=info)


def _exif():
    exif = Image.Exif()
    exif[0x013B] = "Winterbottom"  # Artist
    return exif


HIDDEN = {
    "comment": (SOUND["baseline"][:2] + COMMENT + SOUND["baseline"][2:], "JPEG segment FFFE"),
    "EXIF": (encoded(exif=_exif()), "JPEG segment FFE1"),
    "between scans": (_between_scans(SOUND["progressive"]), "JPEG segment FFFE"),
    "between segments": (SOUND["baseline"][:2] + b"Winterbottom" + SOUND["baseline"][2:], "bytes between"),
    "inside a table": (_longer_table(SOUND["baseline"]), "JPEG segment FFDB"),
    "after the end": (SOUND["baseline"] + b"Winterbottom", "bytes after the image"),
    "another picture after the end": (SOUND["baseline"] + SOUND["grey"], "bytes after the image"),
    "PNG text": (_png_with(Comment="Winterbottom"), "PNG chunk"),
    "PNG after its end": (SOUND["PNG RGB"] + SOUND["PNG L"], "bytes after the image"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_no_picture_is_named_and_can_be_cut_out(name):
    data, expected = HIDDEN[name]
    assert str(image_metadata(data)).startswith(expected)
    if name == "inside a table":  # without its table no decoder can read it
        return
    alone = picture_alone(data)
    assert image_metadata(alone) is None
    assert b"Winterbottom" not in alone
    shown = SOUND["baseline"] if name == "between segments" else data  # Pillow does not open that one
    assert np.array_equal(decoded(alone), decoded(shown))


def _less_rows(data, rows):
    """The header says less rows than are encoded, as a careless crop does."""
    at = next(data.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in data)
    return data[: at + 5] + rows.to_bytes(2, "big") + data[at + 7 :]


@pytest.mark.parametrize("name", ["baseline", "subsampled", "progressive", "grey", "of the ingest"])
def test_rows_that_the_header_hides_are_found(name):
    assert image_metadata(_less_rows(SOUND[name], 24)) == "pixels behind the last row"


def test_rows_that_a_png_header_hides_are_found():
    import zlib

    data = SOUND["PNG RGB"]
    head = data[12:20] + (24).to_bytes(4, "big") + data[24:29]
    assert (
        image_metadata(data[:12] + head + zlib.crc32(head).to_bytes(4, "big") + data[33:])
        == "pixels behind the last row"
    )


@pytest.mark.parametrize(
    ("name", "size"), [("baseline", (80, 96)), ("subsampled", (80, 96)), ("progressive", (80, 96))]
)
def test_the_whole_of_the_last_blocks_can_be_seen(name, size):
    whole = decoded(whole_blocks(SOUND[name]))
    assert whole.shape == (*size, 3)
    inside = (
        slice(0, ROWS - 2),
        slice(0, COLS - 2),
    )  # colour of the last pixels is mixed with its neighbours
    assert np.abs(whole[inside] - decoded(SOUND[name])[inside]).max() <= 8


def test_blocks_beyond_the_edge_of_an_ingested_picture_repeat_its_edge():
    """No letter that was cropped off stays in the part of a block that no viewer shows."""
    from usds.curation.deid.encode import encode

    whole = decoded(whole_blocks(encode(picture())))
    assert np.abs(whole[ROWS:, :COLS] - whole[ROWS - 1, :COLS]).mean() < 12
    assert np.abs(whole[:ROWS, COLS:] - whole[:ROWS, COLS - 1 : COLS]).mean() < 12


def test_a_file_that_is_cut_off_has_no_end():
    for name in ("baseline", "PNG RGB"):
        cut = SOUND[name][: len(SOUND[name]) // 2]
        assert str(image_metadata(cut)).endswith("without an end")
        assert picture_alone(cut) is None
    assert image_metadata(b"GIF89a") == "unknown image format"
    assert picture_alone(b"GIF89a") == b""
