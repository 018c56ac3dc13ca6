"""A fitted mapper as bytes and back: skops' format, which holds no code, made identical from run to run.

Only the file. What the mapper learns belongs to `mapper`, where the bytes are kept to the lake.

skops writes a zip archive that names arrays and objects by their addresses in memory and stamps entries with the
time of day. Both are replaced here: objects are numbered as they appear, entries carry the oldest date a zip can
hold. Equal mappers then give equal bytes, and the lake's digests tell whether a retrain changed anything.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

from sklearn.pipeline import Pipeline
from skops import io as skops_io
from skops.io.exceptions import UntrustedTypesFoundException

from bandicoot_core.errors import CorruptPartitionError

_SCHEMA_NAME = "schema.json"
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)

TRUSTED_TYPES = ("numpy.dtype",)
"""Types accepted beyond those that skops itself trusts: the imputer remembers the type of number it was fitted on."""


def dump_pipeline(pipeline: Pipeline) -> bytes:
    """The pipeline in skops' format; equal pipelines give equal bytes, whichever process writes them."""
    with zipfile.ZipFile(io.BytesIO(skops_io.dumps(pipeline))) as archive:
        schema = json.loads(archive.read(_SCHEMA_NAME))
        new_names: dict[str, str] = {}
        new_ids: dict[int, int] = {}
        for node in _nodes(schema):
            _renumber(node, new_names, new_ids)
        contents = {new_name: archive.read(name) for name, new_name in new_names.items()}
    contents[_SCHEMA_NAME] = json.dumps(schema, indent=1, sort_keys=False).encode()
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _FIXED_TIME), content)
    return output.getvalue()


def load_pipeline(content: bytes) -> Pipeline:
    """The pipeline that was dumped; CorruptPartitionError when the bytes are no mapper or hold untrusted types."""
    remedy = "materialize features_only_mapper again"
    try:
        loaded = skops_io.loads(content, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise CorruptPartitionError(
            f"features_only_mapper: the file holds types that a mapper does not have ({error}); it was not loaded; "
            f"{remedy}, and find out who wrote the file"
        ) from error
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise CorruptPartitionError(
            f"features_only_mapper: {len(content)} bytes are not a mapper in skops' format ({error}); {remedy}"
        ) from error
    if not isinstance(loaded, Pipeline):
        raise CorruptPartitionError(
            f"features_only_mapper: the file holds a {type(loaded).__name__}, expected a Pipeline; {remedy}"
        )
    return loaded


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "__loader__" in value:
            yield value
        for child in value.values():
            yield from _nodes(child)
    elif isinstance(value, list):
        for child in value:
            yield from _nodes(child)


def _renumber(node: dict[str, Any], new_names: dict[str, str], new_ids: dict[int, int]) -> None:
    if node["__loader__"] == "JsonNode":
        # Which plain values share an address is up to the interpreter and means nothing.
        node.pop("__id__", None)
    elif "__id__" in node:
        node["__id__"] = new_ids.setdefault(node["__id__"], len(new_ids) + 1)
    if isinstance(node.get("file"), str):
        name = node["file"]
        suffix = name[name.rindex(".") :]
        node["file"] = new_names.setdefault(name, f"{len(new_names)}{suffix}")
