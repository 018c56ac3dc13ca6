"""A certificate authority and the certificate of a server named `localhost`, made by OpenSSL for one test."""

from dataclasses import dataclass
from pathlib import Path

from tests.servers.processes import program, run


@dataclass(frozen=True)
class Certificates:
    """Files of an authority (`ca`) and of the server it vouches for."""

    ca: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """Write them into a folder that the servers' account may write to; valid for a day, and for the name localhost."""
    openssl = program("openssl")
    made = Certificates(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    authority = ("-x509", "-days", "1", "-subj", "/CN=Authority of a test", "-out", str(made.ca))
    run([openssl, "req", *new_key, "-keyout", str(folder / "ca.key"), *authority], folder)
    signed = ("-CA", str(made.ca), "-CAkey", str(folder / "ca.key"), "-days", "1", "-out", str(made.certificate))
    name = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    run([openssl, "req", "-x509", *new_key, "-keyout", str(made.key), *name, *signed], folder)
    made.key.chmod(0o600)
    return made
