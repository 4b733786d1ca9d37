"""The first pass: probe what is new, harvest what it identifies, decide what every file is."""

from __future__ import annotations

from usds.curation.harvesting import STAMP, build_index
from usds.curation.linking import Linked, link
from usds.curation.run import Run
from usds.curation.stages import write_run

__all__ = ["first_pass"]

_PER_JOB = 16


def first_pass(run: Run) -> Linked:
    """Learn about every file of the scan; files that are known are not read.

    Returns
    -------
    Linked
        With the fingerprint of the harvest index, which is in the private state now.
    """
    write_run(run.state, run.settings, "")
    probed = _probe(run, "reading headers")
    archives = [entry for entry in run.catalogue.entries() if entry.kind == "zip" and entry.reason == "ok"]
    fresh = [entry for entry in archives if entry.id in probed]
    for entry in fresh:
        run.catalogue.add_members(entry.id, [tuple(member) for member in entry.facts["members"]])
    if fresh:
        probed |= _probe(run, "reading headers in archives")
    linked = link(
        list(run.catalogue.entries()),
        run.ids,
        run.link,
        originals=_originals(run),
        withdrawn=run.state.withdrawn(),
        gone=run.catalogue.gone(),
    )
    subjects = {source.entry.id: source.subject_id for source in linked.sources}
    changed = run.catalogue.save_subjects(subjects)
    known = run.state.read(STAMP)
    if probed or changed or known is None:
        linked.index_stamp = build_index(run.state, run.catalogue)
    else:
        linked.index_stamp = known["stamp"]
    return linked


def _probe(run: Run, label: str) -> set[int]:
    rows = run.catalogue.to_probe()
    for done in run.work("prober", label, map(str, rows), per_job=_PER_JOB):
        if run.catalogue.is_unfilled(int(done.item)):
            run.catalogue.save_failure(int(done.item), done.reason)
    return set(rows)


def _originals(run: Run) -> dict[str, str]:
    """Source key by content of the media in the dataset that are no duplicates themselves."""
    query = (
        "SELECT content, min(source_key) FROM sources WHERE content IS NOT NULL AND reason NOT IN "
        "('duplicate', 'withdrawn') AND kind IN ('dicom', 'image', 'video') GROUP BY content"
    )
    with run.state.ledger() as ledger:
        return dict(ledger.execute(query).fetchall())
