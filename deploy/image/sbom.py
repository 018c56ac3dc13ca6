"""Adds what the base image brings to a CycloneDX bill of Python packages: Debian's packages, and Python itself.

    python sbom.py packages.json > bandicoot.cdx.json

Run in the image, beside cyclonedx-bom, whose schema the result is held to. Scanners match Debian's packages by their
purl, Python by its CPE.
"""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

_FIELDS = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n"


def debian_components(listed: str, distro: str) -> list[dict[str, Any]]:
    """One component for each installed package in the output of `dpkg-query` with these fields."""
    components = []
    for line in listed.splitlines():
        status, name, version, architecture, source, source_version = line.split("\t")
        if status != "installed":
            continue
        upstream = f"&upstream={quote(source)}%40{quote(source_version, safe='')}" if source != name else ""
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}&distro={distro}{upstream}"
        components.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return components


def python_component(version: str) -> dict[str, Any]:
    """The interpreter."""
    purl = f"pkg:generic/python@{version}"
    cpe = f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*"
    return {"type": "platform", "bom-ref": purl, "name": "python", "version": version, "cpe": cpe, "purl": purl}


def with_base(bill: dict[str, Any], added: list[dict[str, Any]]) -> dict[str, Any]:
    """The bill with these components after its own."""
    return {**bill, "components": [*bill.get("components", []), *added]}


def refuse_invalid(text: str) -> None:
    """SystemExit with what is wrong with a bill that CycloneDX 1.6 does not allow."""
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415 - only where bills are made
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    trouble = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if trouble is not None:
        raise SystemExit(f"the bill of materials is not valid: {trouble}")


if __name__ == "__main__":
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    base = f"{release['ID']}-{release['VERSION_ID']}".replace('"', "")
    query = ["dpkg-query", "--show", f"--showformat={_FIELDS}"]
    packages = subprocess.run(query, check=True, capture_output=True, text=True).stdout  # noqa: S603 - fixed words
    brought = [python_component(platform.python_version()), *debian_components(packages, base)]
    whole = json.dumps(with_base(json.loads(Path(sys.argv[1]).read_text()), brought), indent=1)
    refuse_invalid(whole)
    sys.stdout.write(f"{whole}\n")
