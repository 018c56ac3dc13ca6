"""Checks, declared from the names and sentences that bandicoot_core gives them.

The checks themselves are pure functions in bandicoot_core (policy.checks, model.versions); here they only get a place
between an asset and what is downstream of it.
"""

from collections.abc import Collection, Mapping

import dagster as dg


def check_specs(
    asset: str, descriptions: Mapping[str, str], *, warning_only: Collection[str] = ()
) -> list[dg.AssetCheckSpec]:
    """One check per name; a failed blocking one stops the run before anything downstream."""
    return [
        dg.AssetCheckSpec(name=name, asset=asset, description=description, blocking=name not in warning_only)
        for name, description in descriptions.items()
    ]
