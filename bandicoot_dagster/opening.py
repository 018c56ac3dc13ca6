"""Opening the installation for a command: its server reachable, its published schema at the newest version."""

from typing import TYPE_CHECKING

from bandicoot_core.settings import Settings

if TYPE_CHECKING:
    from bandicoot_core.stores.installation import Installation


def open_installation(settings: Settings) -> "Installation":
    """The installation of some settings, ready to be read and written; UnreachableError when a server is not there."""
    from bandicoot_core.stores.installation import Installation

    installation = Installation(settings)
    installation.prepare()
    return installation
