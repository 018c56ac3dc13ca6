"""Fetches secrets for a process of the control plane, with the machine's own identity, into a file in memory.

    fetch_secrets.py --project P --environment /run/bandicoot/daemon.env VARIABLE=secret-name ...
    fetch_secrets.py --project P --redis /run/bandicoot/redis.conf --owner 999 bandicoot-redis-url

Runs inside the image before the process starts, on the standard library alone. Nothing it reads is ever printed.
"""

import argparse
import base64
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

METADATA = os.environ.get("METADATA_SERVER", "http://metadata.google.internal")
SECRETS = os.environ.get("SECRET_MANAGER", "https://secretmanager.googleapis.com")
SECONDS = 20


def token() -> str:
    """An access token of the machine's service account."""
    request = urllib.request.Request(
        f"{METADATA}/computeMetadata/v1/instance/service-accounts/default/token", headers={"Metadata-Flavor": "Google"}
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return json.load(answer)["access_token"]


def secret(project: str, name: str, access_token: str) -> str:
    """The newest version of a secret; ends the program with what to do when there is none or it may not be read."""
    request = urllib.request.Request(
        f"{SECRETS}/v1/projects/{project}/secrets/{name}/versions/latest:access",
        headers={"Authorization": f"Bearer {access_token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            value = base64.b64decode(json.load(answer)["payload"]["data"]).decode()
    except urllib.error.HTTPError as error:
        raise SystemExit(
            f"secret {name} of project {project} was not given (HTTP {error.code}): add a version to it, and let this "
            "machine's service account read it"
        ) from None
    value = value.rstrip("\r\n")
    if "\n" in value:
        raise SystemExit(f"secret {name} has more than one line; it has to be one URL or one password")
    return value


def write(path: Path, lines: list[str], *, owner: int) -> None:
    """Replaces the file at once, readable by its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write("".join(f"{line}\n" for line in lines))
    os.chown(beside, owner, owner)
    beside.replace(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", required=True)
    parser.add_argument("--environment", type=Path)
    parser.add_argument("--redis", type=Path)
    parser.add_argument("--owner", type=int, default=os.getuid(), help="user and group the file is given to")
    parser.add_argument("wanted", nargs="*")
    asked = parser.parse_args()
    access_token = token()
    if asked.redis is not None:
        password = urllib.parse.urlsplit(secret(asked.project, asked.wanted[0], access_token)).password
        if not password:
            raise SystemExit(f"the URL in secret {asked.wanted[0]} has no password; Redis is not started without one")
        write(asked.redis, [f"requirepass {json.dumps(urllib.parse.unquote(password))}"], owner=asked.owner)
        return
    pairs = [each.split("=", 1) for each in asked.wanted]
    lines = [f"{name}={secret(asked.project, place, access_token)}" for name, place in pairs]
    write(asked.environment, lines, owner=asked.owner)


if __name__ == "__main__":
    main()
