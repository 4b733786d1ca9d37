"""Evaluation, search and embeddings of a real small run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_dataset import make_dataset, quick_settings, specs, write_annotations

from usds.model.card import model_card
from usds.model.evaluate.pictures import write_pictures
from usds.model.evaluate.run import EvaluateSettings, evaluate
from usds.model.evaluate.tables import attribute_rows, retrieval_rows
from usds.model.run import Run
from usds.model.search import open_index, read_picture
from usds.model.train import train
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.udt import load_taxonomy

TAXONOMY = load_taxonomy("udt")
QUICK = EvaluateSettings(
    galleries=(6,), draws=2, bootstrap=50, fine_tune=("echogenicity",), fine_tune_epochs=1
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset", specs(20, 2))


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    return train(dataset, TAXONOMY, quick_settings(folder), folder / "run", exact=True).run


@pytest.fixture
def again(dataset: Dataset) -> Dataset:
    """The dataset, with the split that training saw."""
    original = dataset.splits().select(["subject_id", "split"]).to_pylist()
    dataset.write_split("default", original)
    return dataset


def test_a_report_holds_every_part(run: Run, again: Dataset, tmp_path: Path) -> None:
    result = evaluate(run, again, QUICK)
    page = write_pictures(result, tmp_path / "evaluation")
    report = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert (report["n"], report["cases"], report["leakage"]["train subjects"]) == (8, 4, 16)
    assert set(report["retrieval"]) == {"text only", "text + tags"}
    assert [g["gallery"] for g in report["retrieval"]["text only"]] == [6, 8]
    assert "semantic" in report["retrieval"]["text only"][0]["image to text"]
    assert report["attributes"]["echogenicity"]["n"] == 8
    assert report["attributes"]["vascularity"]["n"] == 0
    assert report["probes"]["linear"]["echogenicity"]["n_train"] == 24
    assert len(report["fine_tune"]["echogenicity"]["settings"]["accuracies"]) == 3
    assert "majority baseline" in report["verdict"][0]
    assert "Definitions (ours" in report["definitions"]["attributes"]
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 2 + 5
    assert 'src="http' not in text
    header, *rows = retrieval_rows(report)
    assert all(row[header.index("gallery")] for row in rows)
    assert attribute_rows(result.attributes)[-1][3] == "no record carries it"


def test_a_browser_shows_the_page_on_a_phone_in_the_dark(
    run: Run, again: Dataset, tmp_path: Path, browser: Any
) -> None:
    path = write_pictures(evaluate(run, again, QUICK), tmp_path / "evaluation")
    page = browser.new_page(viewport={"width": 380, "height": 800}, color_scheme="dark")
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    style = "getComputedStyle(document.documentElement)"
    text = [int(n) for n in re.findall(r"\d+", page.evaluate(f"{style}.color"))]
    ground = [int(n) for n in re.findall(r"\d+", page.evaluate(f"{style}.backgroundColor"))]
    assert min(text[:3]) > 200
    assert max(ground[:3]) < 60
    named = page.locator("figure").evaluate_all("all => all.map(f => [f.innerText, f.firstChild.alt])")
    assert ["Confusion, echogenicity", "share of each gold label by predicted label"] in [
        [caption.strip(), alt.split(":")[0]] for caption, alt in named
    ]


def test_subjects_on_both_sides_are_refused(run: Run, again: Dataset) -> None:
    original = again.splits().select(["subject_id", "split"]).to_pylist()
    turned = [
        {**row, "split": {"train": "test", "test": "train"}.get(row["split"], row["split"])}
        for row in original
    ]
    again.write_split("default", turned)
    try:
        with pytest.raises(
            ContentError, match=r"the split leaks: 12 subject\(s\) on both sides .*`usds split"
        ):
            evaluate(run, again, QUICK)
    finally:
        again.write_split("default", original)


def test_weights_that_are_not_numbers_are_no_perfect_model(run: Run, again: Dataset, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "broken")
    for path in (tmp_path / "broken" / "checkpoints").glob("*/*.safetensors"):
        state = load_file(path)
        state["towers.clip.visual.proj"][:] = torch.nan
        save_file(state, path)
    with pytest.raises(ContentError, match="vectors that are not finite: its weights are damaged"):
        evaluate(Run(tmp_path / "broken"), again, QUICK)


def test_a_probe_learns_from_few_frames_of_every_subject(run: Run, again: Dataset) -> None:
    few = QUICK.model_copy(update={"probe_frames": 14, "fine_tune": ()})
    found = evaluate(run, again, few).report["probes"]["linear"]["echogenicity"]
    assert (found["n_train"], found["n_test"]) == (14, 8)


def _copied(tmp_path: Path, column: str, value: str) -> Dataset:
    """A dataset whose last test frame is marked as a copy of a training frame."""
    from support import tiny_dataset as maker

    real = maker.frame_row

    def marked(spec: maker.Spec, index: int, caption_id: str) -> dict[str, object]:
        row = real(spec, index, caption_id)
        return {**row, column: value} if row["frame_id"] == "frame01901" else row

    maker.frame_row = marked  # type: ignore[assignment]
    try:
        return make_dataset(tmp_path / "dataset", specs(20, 2))
    finally:
        maker.frame_row = real


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (
            "duplicate_of",
            "frame00000",
            r"1 duplicate image\(s\) across its sides \(frames frame01901 and frame00000\)",
        ),
        ("phash", "near", r"1 image\(s\) with a near duplicate .*frame01901 and frame00000"),
    ],
)
def test_copies_on_both_sides_are_refused(tmp_path: Path, column: str, value: str, message: str) -> None:
    from support.tiny_dataset import hash_name

    copied = _copied(
        tmp_path, column, f"{hash_name('subject000/0') ^ 0b101:016x}" if value == "near" else value
    )
    result = train(copied, TAXONOMY, quick_settings(tmp_path), tmp_path / "run", exact=True)
    with pytest.raises(ContentError, match=message):
        evaluate(result.run, copied, QUICK)


def test_labels_of_another_taxonomy_are_not_judged(run: Run, tmp_path: Path) -> None:
    text = TAXONOMY.source_text.replace("an ultrasound image showing {label}", "a scan of {label}")
    (tmp_path / "other.yaml").write_text(text)
    other = load_taxonomy(tmp_path / "other.yaml")
    strange = make_dataset(tmp_path / "dataset", specs(5, 1), taxonomy=other)
    with pytest.raises(
        ContentError, match=r"trained with taxonomy udt-.*usds annotate --taxonomy \S*/taxonomy.yaml"
    ):
        evaluate(run, strange, QUICK)
    write_annotations(strange, TAXONOMY, [])


def test_search_finds_the_picture_itself_and_keeps_its_vectors(
    run: Run, again: Dataset, tmp_path: Path
) -> None:
    index = open_index(run, again)
    rgb = cv2.imdecode(
        np.frombuffer(again.read_pixels(["frame00301"])["frame00301"], np.uint8), cv2.IMREAD_COLOR
    )
    hits = index.by_picture(rgb[..., ::-1].copy(), 3)
    assert hits[0].frame_id == "frame00301"
    assert hits[0].score > 0.99
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert len(index.by_text("round hypoechoic nodule", 5)) == 5
    labels = index.labels_of(rgb, top=2)
    never = {"margins", "internal_characteristics", "posterior_acoustics", "vascularity"}
    assert index.unlearned == never  # what no training record carries is not guessed
    assert {x.dimension for x in labels} == set(TAXONOMY.dimension_names) - never
    assert all(0 <= x.share <= 1 for x in labels)
    (kept,) = (run.folder / "embeddings").glob("*.parquet")
    table = pq.read_table(kept)
    assert table.column_names == ["frame_id", "subject_id", "caption", "vector"]
    assert (len(table), table.schema.metadata[b"run"]) == (40, run.folder.name.encode())
    before = kept.stat().st_mtime_ns
    open_index(run, again)
    assert kept.stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="the search text is empty"):
        index.by_text("  ")
    (tmp_path / "note.txt").write_text("no picture")
    with pytest.raises(UsageError, match="is no PNG or JPEG"):
        read_picture(tmp_path / "note.txt")


def test_the_card_states_data_and_figures(run: Run, again: Dataset) -> None:
    assert "Not evaluated yet" in model_card(run)
    write_pictures(evaluate(run, again, QUICK), run.folder / "evaluation")
    card = model_card(run)
    assert "gallery of 8" in card
    assert "frames: test 8, train 24, valid 8" in card
    assert "attribute scores rest on training labels" in card
    assert "| echogenicity | 8 |" in card
