"""The code blocks of the operations guide's section on Dagster's storage, for the tests that execute them."""

import re
from pathlib import Path

GUIDE = Path(__file__).parents[1] / "docs" / "operations.md"


def storage_blocks(kind: str) -> list[str]:
    """The blocks of one kind, in order."""
    section = GUIDE.read_text().split("\n## Dagster's storage\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{kind}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
