"""Croissant metadata (ML Commons, version 1.0) of a dataset directory.

``croissant.json`` lies in the directory and describes its Parquet tables, so that Croissant readers find
frames, pixels, captions and labels without knowing usds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from usds.schemas import tables
from usds.schemas.dataset import CROISSANT, Dataset
from usds.schemas.files import write_json

__all__ = ["croissant", "write_croissant"]

_SCALARS: Final = {
    "string": "sc:Text",
    "bool": "sc:Boolean",
    "int32": "sc:Integer",
    "float": "sc:Float",
}
# Column -> the column of another record set that it points at.
_REFERENCES: Final = {
    ("images", "frame_id"): "frames/frame_id",
    ("annotations", "frame_id"): "frames/frame_id",
    ("annotations", "caption_id"): "captions/caption_id",
}
_KEYS: Final = {"frames": "frame_id", "captions": "caption_id"}
# http://mlcommons.org/croissant/1.0, section "Croissant format information": the context every file carries.
_CONTEXT: Final[dict[str, Any]] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(
    dataset: Dataset, *, title: str = "Ultrasound dataset", licence: str | None = None
) -> dict[str, Any]:
    """The JSON-LD document.

    Parameters
    ----------
    dataset : Dataset
    title : str
    licence : str, optional
        URL or SPDX identifier; left out when none is stated.
    """
    schemas = {"frames": tables.FRAMES, "captions": tables.CAPTIONS, "images": tables.IMAGES}
    files = {name: [path.relative_to(dataset.root) for path in dataset.paths(name)] for name in schemas}
    current = dataset.annotations.current()
    if current is not None:
        labels = dataset.annotations.read(current)
        schemas["annotations"] = labels.schema
        files["annotations"] = [Path(task["annotations"]["path"]) for task in labels.tasks.values()]
    described = [name for name in schemas if files[name]]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": title,
        "description": "De-identified ultrasound frames with captions and taxonomy labels.",
        **({"license": licence} if licence else {}),
        "version": f"{dataset.info.format_version}.0.0",
        "distribution": [_file_set(name, files[name]) for name in described],
        "recordSet": [_record_set(name, schemas[name]) for name in described],
    }


def write_croissant(dataset: Dataset, **details: Any) -> Path:
    """Write :func:`croissant` into the dataset directory; return where."""
    path = dataset.root / CROISSANT
    write_json(path, croissant(dataset, **details))
    return path


def _file_set(name: str, paths: list[Path]) -> dict[str, Any]:
    """The shards that manifests name, one by one: a pattern would also match what a killed writer left."""
    return {
        "@type": "cr:FileSet",
        "@id": f"{name}-files",
        "name": f"{name}-files",
        "description": f"Parquet shards of {name}.",
        "encodingFormat": "application/x-parquet",
        "includes": [path.as_posix() for path in paths],
    }


def _record_set(name: str, schema: pa.Schema) -> dict[str, Any]:
    fields = [_field(name, field) for field in schema if _data_type(name, field.type)]
    key = {"key": {"@id": f"{name}/{_KEYS[name]}"}} if name in _KEYS else {}
    return {"@type": "cr:RecordSet", "@id": name, "name": name, **key, "field": fields}


def _field(table: str, field: pa.Field) -> dict[str, Any]:
    reference = _REFERENCES.get((table, field.name))
    return {
        "@type": "cr:Field",
        "@id": f"{table}/{field.name}",
        "name": f"{table}/{field.name}",
        "dataType": _data_type(table, field.type),
        **({"repeated": True} if pa.types.is_list(field.type) else {}),
        **({"references": {"field": {"@id": reference}}} if reference else {}),
        "source": {"fileSet": {"@id": f"{table}-files"}, "extract": {"column": field.name}},
    }


def _data_type(table: str, kind: pa.DataType) -> str | None:
    """Croissant's type; None for nested columns (polygons, boxes), which version 1.0 cannot describe."""
    if table == "images" and pa.types.is_binary(kind):
        return "sc:ImageObject"
    if pa.types.is_list(kind):
        kind = kind.value_type
    return _SCALARS.get(str(kind))
