"""The model card: what a run is, from what it was made, and what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from usds.model.checkpoint import find_checkpoint
from usds.model.run import Run
from usds.model.settings import TrainSettings
from usds.schemas.files import atomic_path, read_json

__all__ = ["model_card", "write_card"]


def write_card(run: Run, path: Path) -> Path:
    """Write :func:`model_card` as ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        partial.write_text(model_card(run), "utf-8")
    return path


def model_card(run: Run) -> str:
    """Markdown with what the run folder knows; figures only if the run was evaluated."""
    settings, data = run.settings(), run.data()
    environment: dict[str, Any] = read_json(run.folder / "environment.json")
    lines = [
        f"# {run.folder.name}",
        "",
        "An Ultrasound-CLIP model (arXiv 2604.01749 and variants) "
        + ("imported into usds." if run.imported else "trained with usds.")
        + " It compares ultrasound",
        "images with text. It is a research model: it is no medical device and must not guide a diagnosis.",
        "",
        "## Training",
        *_training(run, settings, environment),
        "",
        "## Data",
        *_data(data),
        "",
        "## Figures",
        *_figures(run),
        "",
        "## Limits",
        "- what the training side does not show cannot be recognised; see the label coverage of the "
        "dataset card",
        "- figures hold for this dataset, this split and the stated gallery sizes",
    ]
    return "\n".join(lines) + "\n"


def _training(run: Run, settings: TrainSettings, environment: dict[str, Any]) -> list[str]:
    loss, towers = settings.model.loss, settings.model.towers.name
    versions = f"- torch {environment['libraries']['torch']}, usds {environment['libraries']['usds']}"
    if run.imported:
        source = run.data()["imported"]
        return [
            f"- weights from `{source['file']}` (SHA-256 `{source['sha256']}`); `import.json` lists what was "
            "loaded, dropped and left fresh",
            f"- towers `{Path(towers).name}`, label path `{settings.model.graph.kind}`",
            versions,
        ]
    return [
        f"- preset `{settings.preset}`, towers `{Path(towers).name}`, label path "
        f"`{settings.model.graph.kind}`, loss `{loss.kind}` on the `{loss.target}` target",
        f"- checkpoint `{find_checkpoint(run.folder).name}`, batch {settings.data.batch_size}, seed "
        f"{settings.run.seed}",
        f"- label prompts in the loss: weight {loss.prompt_weight:g}"
        + (" (attribute scores rest on training labels)" if loss.prompt_weight > 0 else ""),
        f"{versions}, {environment['device']}",
    ]


def _data(data: dict[str, Any]) -> list[str]:
    if data.get("imported"):
        return ["- what it was trained on is not recorded here"]
    frames = ", ".join(f"{side} {n}" for side, n in sorted(data["frames"].items()))
    subjects = ", ".join(f"{side} {len(found)}" for side, found in sorted(data["subjects"].items()))
    return [
        f"- dataset `{data['dataset_id']}` ({data['tool']}), annotation set `{data['annotation_set']}`, "
        f"split `{data['split']}`",
        f"- frames: {frames}; subjects: {subjects}",
        "- the split is by subject; captions and labels come from the sources' own text by rules",
    ]


def _figures(run: Run) -> list[str]:
    path = run.folder / "evaluation" / "evaluation.json"
    if not path.is_file():
        return ["Not evaluated yet: `usds evaluate` measures retrieval, zero-shot attributes and probes."]
    report: dict[str, Any] = read_json(path)
    full = report["retrieval"]["text only"][-1]
    lines = [
        f"On the {report['side']} side ({report['n']} frames of {report['cases']} cases), text only, "
        f"gallery of {full['gallery']}:",
        "",
        "| direction | found | R@1 | R@5 | R@10 | median rank |",
        "|---|---|---|---|---|---|",
    ]
    for direction in ("image to text", "text to image"):
        for match in ("exact pair", "same caption"):
            v = full[direction][match]
            lines.append(
                f"| {direction} | {match} | {v['R@1']:.3f} | {v['R@5']:.3f} | {v['R@10']:.3f} | "
                f"{v['median rank']:.1f} |"
            )
    lines += ["", "| dimension | n | accuracy (95 %) | majority |", "|---|---|---|---|"]
    for name, v in report["attributes"].items():
        if v["n"] and v["majority"] is not None:
            a = v["accuracy"]
            interval = "" if a["low"] is None else f" ({a['low']:.3f}-{a['high']:.3f})"
            lines.append(f"| {name} | {v['n']} | {a['value']:.3f}{interval} | {v['majority']:.3f} |")
    return [*lines, "", *report["verdict"]]
