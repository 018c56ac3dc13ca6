"""Removing one caregiver's rows from a partition, so that no file of it holds them any more.

The partition keeps its digest for those who compute from it (see Manifest.digest): nothing becomes stale because
somebody is forgotten. Aggregates that name nobody (counts, models) stay as they were.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend
from upath import UPath

from bandicoot_core.stores.lake.atomic_folder import commit_folder, purge_folder
from bandicoot_core.stores.lake.manifest import SET_ASIDE_TABLE, FileEntry, Manifest
from bandicoot_core.stores.lake.object_store import is_local
from bandicoot_core.stores.lake.parquet_files import name_by_content, write_without
from bandicoot_core.stores.lake.verification import require_digest, verify_digest

_KEY = "caregiver_key"

_FACTS_OF_ROWS: Mapping[str, tuple[str, str] | None] = {
    "n_read": None,
    "n_accepted": None,
    "n_listed": None,
    "n_responsive": ("state", "R"),
    "n_unresponsive": ("state", "U"),
    "n_assigned_by_history": ("assigned_by", "history"),
    "n_assigned_by_features": ("assigned_by", "features"),
}
"""Facts that count rows of the table `data`: all of them, or those with a value in a column."""


def rewrite_without(
    folder: UPath,
    staging: Path,
    manifest: Manifest,
    caregiver_key: int,
    *,
    engine: Backend,
) -> Manifest | None:
    """Replace a partition by one without a caregiver's rows; None when it has none of them.

    Rows go from every table with a column caregiver_key, the rows set aside among them. Files of earlier generations go
    as well, whoever reads them, even when the current one has no such rows. CorruptPartitionError when a file is not
    what was written, ConflictingWriteError when the partition was replaced meanwhile: run again.
    """
    entries, facts = dict(manifest.entries), dict(manifest.facts)
    for name, entry in manifest.entries.items():
        if not entry.name.endswith(".parquet"):
            continue
        found = _sound_file(folder, staging, manifest, entry)
        if _KEY not in pq.read_schema(found).names:
            continue
        dropped = pq.read_table(found, filters=pc.field(_KEY) == caregiver_key)
        if dropped.num_rows:
            kept = staging / f"{name}.parquet"
            write_without(found, kept, _KEY, caregiver_key, engine)
            entries[name] = name_by_content(kept, n_rows=pq.read_metadata(kept).num_rows)
            facts = _facts_without(facts, name, dropped)
    if entries == dict(manifest.entries):
        purge_folder(folder)
        return None
    rewritten = replace(
        manifest, entries=entries, facts=facts, digest_before=manifest.digest, n_rewrites=manifest.n_rewrites + 1
    )
    commit_folder(folder, staging, rewritten, replaces=manifest, keep_previous=False)
    return rewritten


def _sound_file(folder: UPath, staging: Path, manifest: Manifest, entry: FileEntry) -> Path:
    """The path of a verified file on local disk: its own, or of an object a copy in the staging folder."""
    if is_local(folder):
        verify_digest(folder, manifest, entry)
        return Path(str(folder / entry.name))
    copy = staging / f"copy-of-{entry.name}"
    folder.fs.get_file((folder / entry.name).path, str(copy))
    with copy.open("rb") as stream:
        require_digest(manifest, entry, hashlib.file_digest(stream, "sha256").hexdigest())
    return copy


def _facts_without(facts: Mapping[str, Any], table: str, dropped: pa.Table) -> dict[str, Any]:
    """The facts with their counts of rows lowered by what was dropped from a table."""
    n_dropped: dict[str, int] = {}
    if table == "data":
        for name, which in _FACTS_OF_ROWS.items():
            if which is None:
                n_dropped[name] = dropped.num_rows
            elif which[0] in dropped.column_names:
                n_dropped[name] = pc.sum(pc.equal(dropped[which[0]], which[1])).as_py() or 0
    elif table == SET_ASIDE_TABLE:
        n_rows_set_aside = pc.sum(pc.equal(dropped["action"], "row set aside")).as_py() or 0
        n_dropped = {
            "n_read": n_rows_set_aside,
            "n_set_aside": n_rows_set_aside,
            "n_blanked": dropped.num_rows - n_rows_set_aside,
        }
    without = {name: value - n_dropped.get(name, 0) for name, value in facts.items() if name in n_dropped}
    lowered = {**facts, **without}
    if "responsive_share" in lowered:
        n_known = lowered["n_responsive"] + lowered["n_unresponsive"]
        lowered["responsive_share"] = lowered["n_responsive"] / max(n_known, 1)
    return lowered
