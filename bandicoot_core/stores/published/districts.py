"""Which districts anybody is known in, by what is published."""

import psycopg

from bandicoot_core.stores.postgres.connections import reading

_DISTRICTS = """
    SELECT district FROM bandicoot.caregiver_states WHERE district IS NOT NULL
    UNION SELECT district FROM bandicoot.current_call_list WHERE district IS NOT NULL
"""


def known_districts(connection: psycopg.Connection) -> list[str]:
    """Districts of the current states and of the newest list, in the order of their letters' code points."""
    with reading(connection, "reading published districts"):
        return sorted(row[0] for row in connection.execute(_DISTRICTS))
