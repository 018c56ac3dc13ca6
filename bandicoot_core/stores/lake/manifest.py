"""The manifest of a lake partition: what it holds, what it was computed from, and with which settings.

Plain data with a stable JSON form; reading and writing files belongs to the lake.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MANIFEST_NAME = "manifest.json"
SET_ASIDE_TABLE = "set_aside"


@dataclass(frozen=True)
class FileEntry:
    """One file of a partition: its content-derived name, size in bytes, digest, and rows when it is a table."""

    name: str
    n_bytes: int
    sha256: str
    n_rows: int | None


@dataclass(frozen=True)
class Manifest:
    """One partition. `inputs` maps assets to the digest of what was read of them.

    A partition from which a caregiver was removed keeps in `digest_before` the digest it had with her, and counts in
    `n_rewrites` how often that happened; whom, it does not say.
    """

    asset: str
    partition: str
    entries: Mapping[str, FileEntry]
    inputs: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    digest_before: str | None = None
    n_rewrites: int = 0

    @property
    def digest(self) -> str:
        """Digest that tells whether what was computed from the partition still follows from it.

        It is the digest of every file but the rows set aside. Removing a caregiver does not change it: nothing is
        stale, and no model is trained again, merely because somebody is forgotten.
        """
        return self.digest_before or self.content_digest

    @property
    def content_digest(self) -> str:
        """Digest of the files as they are, but the rows set aside."""
        parts = [f"{name}={e.sha256}" for name, e in sorted(self.entries.items()) if name != SET_ASIDE_TABLE]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def n_rows(self, table: str = "data") -> int:
        """Rows of a table of the partition."""
        return self.entries[table].n_rows or 0

    def to_json(self) -> str:
        """Stable JSON: the same manifest gives the same text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """The manifest a text was made from; ValueError, KeyError or TypeError when it is not one."""
        data = json.loads(text)
        return cls(**{**data, "entries": {name: FileEntry(**entry) for name, entry in data["entries"].items()}})


def combined_digest(manifests: Iterable[Manifest]) -> str:
    """One digest for some partitions of an asset: what `inputs` record of what was read together."""
    parts = sorted(f"{manifest.partition}={manifest.digest}" for manifest in manifests)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
