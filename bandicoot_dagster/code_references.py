"""Where the code of each asset is: its file and line, and a link when the repository's address is configured.

Dagster's own helper takes the file of the outermost decorator for that of the asset; here the function itself counts.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

_ROOT = Path(__file__).parents[1]


def with_code_references(assets: Sequence[Any], repository_url: str | None, branch: str) -> list[Any]:
    """The same assets, each that is computed with a reference to its function; external ones as they are.

    `repository_url` is the address of the project on GitHub or GitLab; None refers to the file on this machine.
    """
    referring = [_with_file(asset) if isinstance(asset, dg.AssetsDefinition) else asset for asset in assets]
    if repository_url is None:
        return referring
    mapping = dg.AnchorBasedFilePathMapping(local_file_anchor=_ROOT, file_anchor_path_in_repository="")
    return list(dg.link_code_references_to_git(referring, repository_url, branch, mapping))


def _with_file(asset: dg.AssetsDefinition) -> dg.AssetsDefinition:
    function = inspect.unwrap(asset.op.compute_fn.decorated_fn)  # type: ignore[union-attr]
    reference = dg.LocalFileCodeReference(
        file_path=inspect.getfile(function), line_number=inspect.getsourcelines(function)[1], label=function.__name__
    )
    references = dg.CodeReferencesMetadataValue(code_references=[reference])
    return asset.map_asset_specs(lambda spec: spec.merge_attributes(metadata={"dagster/code_references": references}))
