"""Runs the real terraform on a folder, with the stand-in provider beside it: no account, no network.

python terraform.py FOLDER validate
python terraform.py FOLDER plan -var-file=lean.tfvars
python terraform.py FOLDER test
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent


class NoTerraformError(Exception):
    """There is no terraform on this machine."""


def terraform_program() -> str:
    """The terraform to run: TERRAFORM, or the one in PATH."""
    found = os.environ.get("TERRAFORM") or shutil.which("terraform")
    if found is None:
        raise NoTerraformError(
            "not checked: there is no terraform in PATH. Neither Debian nor PyPI has it; get 1.11 or newer from "
            "its makers, or set TERRAFORM to where it is"
        )
    return found


class Terraform:
    """The program in a folder."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs it; what it says is in `stdout` and `stderr`."""
        return subprocess.run(
            [terraform_program(), f"-chdir={self.folder}", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def must(self, *words: str) -> str:
        """Runs it; AssertionError with all it said when it fails."""
        done = self.run(*words)
        if done.returncode != 0:
            raise AssertionError(f"terraform {' '.join(words)}:\n{done.stdout}\n{done.stderr}")
        return done.stdout


@contextmanager
def offline(folder: Path, *, knows_everything: bool = False) -> Iterator[Terraform]:
    """Terraform, initialized, in a copy of a folder with the stand-in provider; both are gone at the end.

    The copy has the files that lie beside the folder, too, and keeps its state in a file, whatever the folder says.
    A stand-in that knows everything makes up texts and numbers that only Google can say; else they are unknown.
    """
    terraform_program()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        copy = place / folder.resolve().parent.name / folder.resolve().name
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        for file in folder.resolve().parent.iterdir():
            if file.is_file():
                shutil.copy(file, copy.parent)
        (copy / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
        stand_in = subprocess.Popen(
            [sys.executable, str(HERE / "provider.py"), str(place / "s")],
            env={**os.environ, "STAND_IN_KNOWS": "everything" if knows_everything else ""},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert stand_in.stdout is not None
            line = stand_in.stdout.readline().strip()
            assert line, "the stand-in provider did not start"
            environment = {
                "PATH": os.environ.get("PATH", ""),
                "HOME": name,
                "TF_REATTACH_PROVIDERS": line,
                "TF_CLI_CONFIG_FILE": "/dev/null",
                "TF_IN_AUTOMATION": "1",
                "TF_DATA_DIR": str(place / "data"),
                "CHECKPOINT_DISABLE": "1",
            }
            terraform = Terraform(copy, environment)
            terraform.must("init", "-input=false", "-no-color")
            yield terraform
        finally:
            stand_in.terminate()
            stand_in.wait(10)


def main() -> None:
    """The command line."""
    with offline(Path(sys.argv[1])) as terraform:
        done = terraform.run(*sys.argv[2:])
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
