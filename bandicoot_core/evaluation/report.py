"""What a report is made of, whatever shows it: sentences, tables and pictures, each under a heading.

The UI, the command line and the documentation show the same report. Which reports there are, and where their numbers
are kept, belongs to the pipeline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class Report:
    """One report. Headings are unique among tables and among pictures, and stand in the order of reading."""

    title: str
    sentences: Sequence[str] = ()
    """What the numbers say, for a reader in a hurry."""
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    """Small tables by their headings."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG pictures by their headings."""


def picture_file_name(heading: str) -> str:
    """The file name under which a picture is kept: its heading in lower case, words joined by hyphens, `.png`."""
    words = "".join(character if character.isalnum() else " " for character in heading.lower()).split()
    return "-".join(words) + ".png"
