"""A dataset of one frame and one caption, and what is known of its subject: where tests plant leaks."""

from conftest import SOURCE, caption_row, frame_row, speckle

from usds.curation.deid.harvest import IdentifierIndex
from usds.curation.deid.identity import Ids
from usds.curation.readers.base import Identifier
from usds.schemas.dataset import Dataset

IDS = Ids(b"k" * 32)
SUBJECT = IDS.subject("id", "4711")
FRAME = IDS.frame("a" * 64, 0)


def put(dataset, task, row, image, captions=()):
    with dataset.writer(task, (row["source_key"],)) as writer:
        writer.add_frame(row, image)
        for caption in captions:
            writer.add_caption(caption)
        writer.add_source({**SOURCE, "source_key": row["source_key"]})
        writer.commit()


def make(root, *, image=None, frame=None, caption="Hypoechoic nodule in the left breast."):
    """A dataset of one frame and one caption."""
    dataset = Dataset.create(
        root, key_fingerprint="f" * 16, tool="usds test", detector="none", settings={}, settings_hash="h" * 16
    )
    key = IDS.source("one")
    row = frame_row(
        **{
            "frame_id": FRAME, "study_id": IDS.study("s"), "subject_id": SUBJECT, "source_key": key,
            **(frame or {}),
        }
    )  # fmt: skip
    text = caption_row(FRAME, caption, caption_id=IDS.keyed_hash("caption", "c"), source_key=key)
    put(dataset, "t" * 26, row, image or speckle(1), [text])
    return dataset


def index():
    found = IdentifierIndex()
    for value, klass in [("Winterbottom^Agatha", "name"), ("MRN0048213", "id"), ("19570311", "date")]:
        found.add(SUBJECT, Identifier(value, klass))
    found.add(None, Identifier("Kestrel Infirmary", "institution"))
    return found
