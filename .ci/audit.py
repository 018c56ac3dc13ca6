"""Whether anything is known against the packages that a constraints file pins: pip-audit, where it can ask somebody.

Exit status 0: nothing is known, or the advisory service cannot be reached, which is said. 1: something is known, or a
package could not be judged. It is asked once beforehand, so that a machine without a network does not wait for each
package.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

OSV = "https://api.osv.dev/v1/query"


def main(arguments: list[str] | None = None) -> int:
    """Audit one file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("constraints", type=Path, help="file of pinned packages")
    parser.add_argument("--url", default=OSV, help="advisory service that speaks OSV's protocol (%(default)s)")
    parser.add_argument("--timeout", type=int, default=5, help="seconds to wait for an answer (%(default)s)")
    parser.add_argument("--total", type=float, default=300, help="seconds that all of it may take (%(default)s)")
    chosen = parser.parse_args(arguments)
    away = _why_away(chosen.url, chosen.timeout)
    if away is None:
        result = _audited(chosen.constraints, chosen.url, chosen.timeout, chosen.total)
        if result is not None:
            return result
        away = _why_away(chosen.url, chosen.timeout)
        if away is None:
            print(f"audit: the advisory service {chosen.url} answers, but did not for every package; try again")
            return 1
    print(
        f"audit: {chosen.constraints.name} is NOT audited: the advisory service {chosen.url} can't be reached ({away})"
    )
    return 0


def _why_away(url: str, timeout: int) -> str | None:
    """Why nobody who speaks OSV's protocol answers; None when somebody does."""
    question = {"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "1.0"}
    try:
        response = requests.post(url, data=json.dumps(question), timeout=timeout)
        response.raise_for_status()
        answer = response.json()
    except (requests.RequestException, ValueError) as error:
        return type(error).__name__
    return None if isinstance(answer, dict) else "what answers does not speak its protocol"


def _audited(constraints: Path, url: str, timeout: int, total: float) -> int | None:
    """The exit status; None when the audit did not come to an end."""
    command = [
        *(sys.executable, "-m", "pip_audit", "--requirement", str(constraints), "--no-deps", "--disable-pip"),
        *("--vulnerability-service", "osv", "--osv-url", url, "--timeout", str(timeout)),
        *("--progress-spinner", "off", "--format", "json"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=total, check=False)  # noqa: S603 - no shell reads the words
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        print(f"audit: it took longer than {total:g} s")
        return None
    except ValueError:
        print(done.stderr.strip()[-2000:])
        return None
    return _told(constraints, found["dependencies"])


def _told(constraints: Path, packages: list[dict[str, Any]]) -> int:
    known = [package for package in packages if package.get("vulns")]
    unjudged = [package for package in packages if "skip_reason" in package]
    for package in known:
        for advisory in package["vulns"]:
            fixed = ", ".join(advisory["fix_versions"]) or "no release yet"
            print(f"audit: {package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}")
    for package in unjudged:
        print(f"audit: {package['name']}: {package['skip_reason']}")
    if known or unjudged or not packages:
        print(
            f"audit: of {len(packages)} packages, {len(known)} have known vulnerabilities, {len(unjudged)} no verdict"
        )
        return 1
    print(f"audit: nothing is known against the {len(packages)} packages of {constraints.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
