"""The documents that are written from the code say what the code says."""

from pathlib import Path

from bandicoot_core.contracts import tables_document
from bandicoot_core.settings import settings_table

ROOT = Path(__file__).parents[2]


def test_the_readme_lists_every_setting_as_it_is() -> None:
    readme = (ROOT / "README.md").read_text()
    start = readme.index("<!-- settings")
    table = readme[readme.index("\n", start) + 1 : readme.index("<!-- end of settings -->")].strip()
    assert table == settings_table()


def test_the_tables_document_is_the_registry() -> None:
    assert (ROOT / "docs" / "tables.md").read_text() == tables_document()
