"""What a worker does for the review page: lay the native frames of a file of the dataset before a person."""

from __future__ import annotations

import hashlib
from pathlib import Path

from usds.curation.frames import key_frames
from usds.curation.probe import read_source
from usds.curation.readers.base import MediaError, open_media
from usds.curation.review_folder import Pictures, ReviewFolder, Seen, pictures_in_dataset
from usds.curation.review_queue import frames_of
from usds.curation.settings import IngestSettings
from usds.curation.settle import ingest_settings
from usds.curation.stages import worker_state
from usds.curation.waiting import KnownFile, known_files
from usds.curation.worker import Handler, WorkerSetup
from usds.schemas.dataset import Dataset
from usds.schemas.files import file_sha256

__all__ = ["viewer"]


def viewer(setup: WorkerSetup) -> Handler:
    """Item keys are source keys of the dataset; frames go to the folder ``viewed`` of the private state."""
    state = worker_state(setup)
    dataset = Dataset.open(Path(setup.dataset))
    settings = ingest_settings(dataset)
    known = known_files(state)
    folder = ReviewFolder.viewed(state)

    def handle(item: str) -> str:
        folder.clear(item)
        data, file = _unchanged(known[item], settings)
        with open_media(data, kind=file.kind, limits=settings.limits) as media:
            pictures = pictures_in_dataset(frames_of(dataset, [item]).get(item, []))
            if pictures is None:  # kept out: nothing of it is in the dataset
                seen = tuple(Seen(index) for index in key_frames(media, settings.key_frames))
                pictures = Pictures(media.rows, media.cols, media.n_frames, (), seen)
            folder.write(item, pictures, media.frames([frame.index for frame in pictures.frames]))
        return "ok"

    return handle


def _unchanged(places: list[KnownFile], settings: IngestSettings) -> tuple[bytes | Path, KnownFile]:
    """The bytes or the path of a file that is still what was ingested.

    Raises
    ------
    MediaError
        If it lies nowhere any more.
    """
    for file in places:
        if not file.disk_path.is_file():
            continue
        data = read_source(file.disk_path, file.member, settings)
        found = hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else file_sha256(data)
        if found == file.content:
            return data, file
    raise MediaError("unreadable")
