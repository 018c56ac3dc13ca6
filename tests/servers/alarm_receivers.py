"""Who gets the alarms in tests: a webhook and a mail server in this process, over real sockets."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from tests.servers.certificates import Certificates
from tests.servers.processes import free_port


class Hook(ThreadingHTTPServer):
    """Keeps what is posted and answers with `status`, after `pause`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = 200
        self.posted: list[dict[str, Any]] = []
        self.released = threading.Event()
        self.released.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/secret-part"


class _Answer(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.released.wait(20)
        self.server.posted.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""


class Mailbox:
    """Keeps the mails that are sent; refuses when told so."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.refusal = ""

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
        if self.refusal:
            return self.refusal
        self.mails.append(BytesParser().parsebytes(envelope.content))
        return "250 OK"


@contextmanager
def webhook_server() -> Iterator[Hook]:
    """A webhook that takes what is posted."""
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()


@contextmanager
def smtp_server(certificates: Certificates | None = None, *, is_smtps: bool = False) -> Iterator[Controller]:
    """A mail server that admits robot with password p@ss; its `handler` is a Mailbox.

    With certificates it takes nothing before STARTTLS, or with `is_smtps` speaks TLS from the first byte.
    """
    context = None
    if certificates is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates.certificate, certificates.key)
    is_starttls = context is not None and not is_smtps
    controller = Controller(
        Mailbox(),
        hostname="127.0.0.1",
        port=free_port(),
        authenticator=_admits,
        auth_require_tls=is_starttls,
        auth_required=True,
        tls_context=context if is_starttls else None,
        require_starttls=is_starttls,
        ssl_context=context if is_smtps else None,
        server_hostname="localhost",
    )
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()


def _admits(_server: object, _session: object, _envelope: object, _mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (b"robot", b"p@ss"), handled=False)
