"""`usds taxonomy`: show, validate, graph, similarity."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usds.cli.console import DEFAULT_DATASET, DatasetOption, DryRunOption, JsonOption, Output
from usds.cli.taxonomies import open_taxonomy

if TYPE_CHECKING:
    from rich.tree import Tree

    from usds.schemas.annotations import AnnotationSets
    from usds.taxonomy.udt import Dimension, Taxonomy

__all__ = ["register"]

TaxonomyArgument = Annotated[
    str, typer.Argument(help="A taxonomy file, or the bundled name.", metavar="[FILE]")
]


SetOption = Annotated[
    str | None,
    typer.Option("--set", help="Label set to read. By default the one that this taxonomy made."),
]


class Mode(StrEnum):
    """Modes of the similarity prior."""

    identity = "identity"
    taxonomy = "taxonomy"
    cooccurrence = "cooccurrence"
    file = "file"


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(
        no_args_is_help=True, help="Show, validate, draw and compare taxonomies.", rich_markup_mode="rich"
    )
    group.command("show", epilog="Example:  usds taxonomy show --yaml > udt.yaml")(show)
    group.command("validate", epilog="Example:  usds taxonomy validate udt.yaml")(validate)
    group.command("graph", epilog="Example:  usds taxonomy graph --output udt.graphml")(graph)
    group.command("similarity", epilog="Example:  usds taxonomy similarity --dimension echogenicity")(
        similarity
    )
    app.add_typer(group, name="taxonomy")


# -- show -----------------------------------------------------------------------------------------------


def show(
    taxonomy: TaxonomyArgument = "udt",
    *,
    table: Annotated[bool, typer.Option("--table", help="One row a label, with codes and forms.")] = False,
    yaml: Annotated[bool, typer.Option("--yaml", help="The file itself, to copy and edit.")] = False,
    dimension: Annotated[str | None, typer.Option("--dimension", help="Only this dimension.")] = None,
    json: JsonOption = False,
) -> None:
    """Show a taxonomy as a tree, a table, YAML or JSON."""
    output = Output(json)
    loaded = open_taxonomy(taxonomy, output)
    chosen = [_dimension(loaded, dimension)] if dimension else list(loaded.dimensions)
    if yaml:
        sys.stdout.write(loaded.source_text)
        return
    output.data(_as_json(loaded, chosen))
    labels = sum(loaded.widths)
    output.show(
        f"{loaded.title or loaded.id} {loaded.version} ({labels} labels, hash {loaded.content_hash[:8]})"
    )
    output.show(_table(chosen) if table else _tree(loaded, chosen))


def _dimension(taxonomy: Taxonomy, name: str) -> Dimension:
    from usds.cli.console import nearest
    from usds.schemas.errors import UsageError

    if name not in taxonomy.dimension_names:
        near = nearest(name, taxonomy.dimension_names)
        known = ", ".join(taxonomy.dimension_names)
        raise UsageError(
            f"no dimension {name!r}; " + (f"did you mean {near!r}?" if near else f"known: {known}")
        )
    return taxonomy.dimension(name)


def _as_json(taxonomy: Taxonomy, dimensions: Sequence[Dimension]) -> dict[str, Any]:
    return {
        "id": taxonomy.id,
        "version": taxonomy.version,
        "content_hash": taxonomy.content_hash,
        "set_name": taxonomy.set_name,
        "dimensions": [
            {
                "name": dimension.name,
                "title": dimension.title,
                "ordinal": dimension.ordinal,
                "labels": [
                    {
                        "name": label.name,
                        "parent": label.parent[1] if label.parent else None,
                        "codes": [f"{code.scheme}:{code.value}" for code in label.codes],
                        "forms": len(label.forms),
                    }
                    for label in dimension.labels
                ],
            }
            for dimension in dimensions
        ],
    }


def _tree(taxonomy: Taxonomy, dimensions: Sequence[Dimension]) -> Tree:
    """Labels below their parents; dimensions whose labels all hang below others are not repeated."""
    from rich.text import Text
    from rich.tree import Tree

    children = _children(dimensions)
    tree = Tree(Text(taxonomy.id, style="bold"))

    def grow(branch: Tree, key: tuple[str, str]) -> None:
        twig = branch.add(Text(key[1]))
        for child in children.get(key, ()):
            grow(twig, child)

    shown = {(d.name, label.name) for d in dimensions for label in d.labels}
    for dimension in dimensions:
        roots = [x for x in dimension.labels if x.parent is None or x.parent not in shown]
        if roots:
            branch = tree.add(Text(f"{dimension.title} ({len(dimension.labels)})", style="bold"))
            for label in roots:
                grow(branch, (dimension.name, label.name))
    return tree


def _children(dimensions: Sequence[Dimension]) -> Mapping[tuple[str, str], list[tuple[str, str]]]:
    children: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for dimension in dimensions:
        for label in dimension.labels:
            if label.parent is not None:
                children.setdefault(label.parent, []).append((dimension.name, label.name))
    return children


def _table(dimensions: Sequence[Dimension]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("dimension", "label", "parent", "codes", "forms", box=box.SIMPLE_HEAD)
    for dimension in dimensions:
        for label in dimension.labels:
            codes = ", ".join(f"{code.scheme} {code.value}" for code in label.codes)
            parent = label.parent[1] if label.parent else ""
            table.add_row(*map(Text, (dimension.name, label.name, parent, codes, str(len(label.forms)))))
    return table


# -- validate -------------------------------------------------------------------------------------------


def validate(taxonomy: TaxonomyArgument = "udt", *, json: JsonOption = False) -> None:
    """Check a taxonomy file. Exit 1 if it has an error; warnings pass."""
    from usds.taxonomy.validate import validate_taxonomy

    output = Output(json)
    findings = validate_taxonomy(taxonomy)
    errors = [finding for finding in findings if finding.level == "error"]
    output.data({"ok": not errors, "findings": findings})
    for finding in findings:
        output.show(str(finding))
    if errors:
        raise typer.Exit(1)
    loaded = open_taxonomy(taxonomy, output)
    forms = sum(1 for _ in loaded.forms())
    warnings = f", {len(findings)} warnings" if findings else ""
    output.show(
        f"{loaded.id} {loaded.version}: {sum(loaded.widths)} labels, {forms:,} surface forms{warnings}"
    )


# -- graph ----------------------------------------------------------------------------------------------


def graph(
    taxonomy: TaxonomyArgument = "udt",
    *,
    target: Annotated[
        Path | None, typer.Option("--output", help="Write .graphml, .json, .png, .svg or .pdf.")
    ] = None,
    with_labels: Annotated[
        bool,
        typer.Option("--labels", help="Add what the dataset's labels say: counts, which goes with which."),
    ] = False,
    samples: Annotated[
        Path | None,
        typer.Option(
            "--samples",
            help="Write the graph of every frame of the dataset: nodes.parquet and edges.parquet.",
            metavar="FOLDER",
        ),
    ] = None,
    graphml: Annotated[
        int, typer.Option("--graphml", min=0, help="With --samples: so many frames as GraphML files too.")
    ] = 0,
    dataset: DatasetOption = DEFAULT_DATASET,
    set_name: SetOption = None,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """The taxonomy as a graph; with --labels the lesion-attribute graph of a dataset; with --samples the
    graph of each frame's labels, with the taxonomy that stands beside them.
    """
    from usds.taxonomy.graph import label_graph, taxonomy_graph
    from usds.taxonomy.graph_files import write_graph

    output = Output(json)
    if samples is not None:
        _sample_graphs(dataset, samples, graphml, output, set_name=set_name, dry_run=dry_run)
        return
    loaded = open_taxonomy(taxonomy, output)
    made = (
        label_graph(loaded, list(_records(dataset, loaded, set_name)), unknown="drop")
        if with_labels
        else taxonomy_graph(loaded)
    )
    if target is not None and not dry_run:
        write_graph(made, target)
    facts = {
        "nodes": made.number_of_nodes(),
        "edges": made.number_of_edges(),
        "path": str(target) if target else None,
    }
    output.data(facts)
    output.show(f"{facts['nodes']} nodes, {facts['edges']} edges" + (f": {target}" if target else ""))


def _sample_graphs(
    dataset: Path, folder: Path, graphml: int, output: Output, *, set_name: str | None, dry_run: bool
) -> None:
    from usds.schemas.dataset import Dataset
    from usds.schemas.errors import ContentError, UsageError
    from usds.taxonomy.graph import pack_columns
    from usds.taxonomy.graph_files import write_sample_graphs
    from usds.taxonomy.udt import load_taxonomy

    sets = Dataset.open(dataset).annotations
    current = set_name or sets.current()
    if current is None:
        raise ContentError(f"{dataset} has no labels yet: run `usds annotate` first")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; nothing is overwritten: name another with --samples")
    loaded = load_taxonomy(sets.taxonomy_path(current))
    labels = sets.arrow("annotations", current)
    facts: dict[str, Any] = {"set": current, "frames": labels.count_rows(), "path": str(folder)}
    if not dry_run:
        import pyarrow as pa

        parts = (
            (pack_columns(loaded, pa.Table.from_batches([batch])), batch.column("frame_id").to_pylist())
            for batch in labels.to_batches()
            if batch.num_rows
        )
        facts["nodes"], facts["edges"] = write_sample_graphs(loaded, parts, folder, graphml=graphml)
    output.data(facts)
    told = "" if dry_run else f"{facts['nodes']:,} nodes, {facts['edges']:,} edges in {folder}, "
    output.show(f"{told}{facts['frames']:,} frames of the label set {current}")


def _label_set(sets: AnnotationSets, taxonomy: Taxonomy, dataset: Path) -> str:
    """The set that this taxonomy made, else one that an earlier version of it made."""
    from usds.schemas.errors import ContentError

    current = sets.current()
    if current is None:
        raise ContentError(f"{dataset} has no labels yet: run `usds annotate` first")
    made = {name: sets.read(name) for name in sorted(sets.names(), key=lambda name: name != current)}
    same = [name for name, held in made.items() if held.taxonomy_hash == taxonomy.content_hash]
    kin = [name for name, held in made.items() if held.taxonomy_id == taxonomy.id]
    if not same and not kin:
        known = ", ".join(made)
        raise ContentError(
            f"no labels of {dataset} were made with the taxonomy {taxonomy.id!r}: run `usds annotate` with "
            f"it, or name a label set with --set (there are: {known})"
        )
    return (same or kin)[0]


def _records(
    dataset: Path, taxonomy: Taxonomy, set_name: str | None
) -> Iterator[Mapping[str, Sequence[str]]]:
    """Label records of the training side, or of all frames where there is no split."""
    from usds.schemas.dataset import Dataset

    opened = Dataset.open(dataset)
    chosen = set_name or _label_set(opened.annotations, taxonomy, dataset)
    held = opened.annotations.read(chosen).dimensions
    names = [name for name in taxonomy.dimension_names if name in held]
    columns = ", ".join(f'"{name}"' for name in names)
    side = (
        "WHERE subject_id IN (SELECT subject_id FROM splits WHERE name = 'default' AND split = 'train')"
        if "default" in opened.split_names()
        else ""
    )
    with opened.connect(chosen) as connection:
        cursor = connection.execute(f"SELECT {columns} FROM annotations JOIN frames USING (frame_id) {side}")
        while chunk := cursor.fetchmany(4096):
            for row in chunk:
                yield dict(zip(names, row, strict=True))


# -- similarity -----------------------------------------------------------------------------------------


def similarity(
    taxonomy: TaxonomyArgument = "udt",
    *,
    mode: Annotated[Mode, typer.Option("--mode", help="How similar two labels are.")] = Mode.taxonomy,
    path: Annotated[Path | None, typer.Option("--file", help="Saved matrices, for --mode file.")] = None,
    target: Annotated[Path | None, typer.Option("--output", help="Save the matrices (.npz).")] = None,
    dimension: Annotated[
        str | None, typer.Option("--dimension", help="Print this dimension's matrix.")
    ] = None,
    dataset: DatasetOption = DEFAULT_DATASET,
    set_name: SetOption = None,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Similarity priors: one label-similarity matrix a dimension."""
    from usds.taxonomy.similarity import similarity as prior

    output = Output(json)
    loaded = open_taxonomy(taxonomy, output)
    shown = _dimension(loaded, dimension).name if dimension else None
    records = list(_records(dataset, loaded, set_name)) if mode is Mode.cooccurrence else None
    made = prior(loaded, mode.value, records, path)
    if target is not None and not dry_run:
        made.save(target)
    names = [shown] if shown else list(made.matrices)
    output.data(
        {
            "mode": made.mode, "hash": made.hash, "path": str(target) if target else None,
            "matrices": {name: made.matrices[name].tolist() for name in names},
            "labels": {name: list(made.labels[name]) for name in names},
        }
    )  # fmt: skip
    output.show(f"mode {made.mode}, hash {made.hash[:16]}" + (f": {target}" if target else ""))
    for name in names if shown else ():
        output.show(_matrix(made.labels[name], made.matrices[name]))


def _matrix(labels: Sequence[str], values: Any) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("", *[str(i + 1) for i in range(len(labels))], box=box.SIMPLE_HEAD)
    for index, label in enumerate(labels):
        table.add_row(Text(f"{index + 1} {label}"), *(f"{value:.2f}" for value in values[index]))
    return table
