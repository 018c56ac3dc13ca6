"""Channels on which a person is told: a Slack-compatible webhook, and mail by SMTP.

A message is a subject and a text; what they say is decided in alarms. Each attempt is bounded in time, and nothing is
tried again here: who sends keeps what is still to be told. No message made here shows a secret.
"""

import smtplib
import ssl
from contextlib import ExitStack
from email.message import EmailMessage
from typing import Protocol
from urllib.parse import unquote, urlsplit

import requests

from bandicoot_core.errors import InvalidSettingError, RefusedWriteError, UnreachableError
from bandicoot_core.settings import Settings

_LOCAL = ("localhost", "127.0.0.1", "::1")


class Channel(Protocol):
    """Something that tells a person."""

    @property
    def name(self) -> str:
        """The name under which it is noted what it has told."""

    def send(self, subject: str, text: str) -> None:
        """Tell it; UnreachableError when nobody answers in time, RefusedWriteError when the message is not taken."""


def open_channels(settings: Settings) -> list[Channel]:
    """The channels that are configured. Nothing is connected yet; InvalidSettingError when a URL cannot be used."""
    channels: list[Channel] = []
    if settings.alarm_webhook_url is not None:
        channels.append(Webhook(settings.alarm_webhook_url.get_secret_value(), settings.alarm_timeout_seconds))
    if settings.alarm_smtp_url is not None:
        channels.append(
            Email(
                settings.alarm_smtp_url.get_secret_value(),
                sender=settings.alarm_email_from or "",
                receivers=settings.alarm_email_to,
                timeout_seconds=settings.alarm_timeout_seconds,
            )
        )
    return channels


class Webhook:
    """A webhook that takes `{"text": ...}` as JSON, as Slack, Mattermost, Google Chat and others do."""

    name = "webhook"

    def __init__(self, url: str, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidSettingError(
                "alarm_webhook_url cannot be used; write it as https://host/path (it is not shown because it is a "
                "secret); set BANDICOOT_ALARM_WEBHOOK_URL"
            )
        self._url, self._host, self._timeout = url, parts.hostname, timeout_seconds

    def send(self, subject: str, text: str) -> None:
        """Post the subject as a bold line and the text below it."""
        body = {"text": f"*{_escaped(subject)}*\n{_escaped(text)}"}
        try:
            answer = requests.post(self._url, json=body, timeout=self._timeout, allow_redirects=False)
        except requests.RequestException as error:
            # The error's own text holds the URL, which is a secret.
            raise UnreachableError(
                f"the webhook at {self._host} does not answer within {self._timeout:g} s ({type(error).__name__}); "
                "the alarm is sent again at the next look"
            ) from None
        if answer.status_code >= 500 or answer.status_code == 429:
            raise UnreachableError(
                f"the webhook at {self._host} answers {answer.status_code}; the alarm is sent again at the next look"
            )
        if not 200 <= answer.status_code < 300:
            raise RefusedWriteError(
                f"the webhook at {self._host} answers {answer.status_code} where 200 is expected; see that "
                "BANDICOOT_ALARM_WEBHOOK_URL is the one it gave you and still valid"
            )


class Email:
    """Mail through an SMTP server: `smtp://` with STARTTLS where the server offers it, `smtps://` with TLS at once."""

    name = "email"

    def __init__(self, url: str, *, sender: str, receivers: tuple[str, ...], timeout_seconds: float) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname or port == -1:
            raise InvalidSettingError(
                "alarm_smtp_url cannot be used; write it as smtp://user:password@host:port, with special characters "
                "percent-encoded (it is not shown because it may hold a password); set BANDICOOT_ALARM_SMTP_URL"
            )
        self._host = parts.hostname
        self._is_tls = parts.scheme == "smtps"
        self._port = port or (465 if self._is_tls else 587)
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._sender, self._receivers, self._timeout = sender, receivers, timeout_seconds

    def send(self, subject: str, text: str) -> None:
        """Send one mail to all receivers; refused where a password would go over the network in the open."""
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = subject, self._sender, ", ".join(self._receivers)
        mail.set_content(text + "\n")
        where = f"the mail server at {self._host}:{self._port}"
        try:
            self._deliver(mail, where)
        except ssl.SSLCertVerificationError as error:
            raise RefusedWriteError(
                f"{where} shows a certificate that cannot be trusted ({error.verify_message}), and was told nothing; "
                "name it in BANDICOOT_ALARM_SMTP_URL as its certificate does, and its authority, if it is your own, in "
                "SSL_CERT_FILE"
            ) from error
        except OSError as error:  # which all of smtplib's errors are
            if _is_refusal(error):
                raise RefusedWriteError(
                    f"{where} does not take the alarm ({type(error).__name__}: {error}); see that user, password, "
                    "sender and receivers in BANDICOOT_ALARM_* are right"
                ) from error
            raise UnreachableError(
                f"{where} does not answer ({type(error).__name__}: {error}); the alarm is sent again at the next look"
            ) from error

    def _deliver(self, mail: EmailMessage, where: str) -> None:
        tls = ssl.create_default_context()
        with ExitStack() as stack:
            server: smtplib.SMTP
            if self._is_tls:
                server = smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout, context=tls)
            else:
                server = smtplib.SMTP(self._host, self._port, timeout=self._timeout)
            stack.enter_context(server)
            server.ehlo()
            is_private = self._is_tls or self._host in _LOCAL
            if not self._is_tls and server.has_extn("starttls"):
                server.starttls(context=tls)
                server.ehlo()
                is_private = True
            if self._user:
                if not is_private:
                    raise RefusedWriteError(
                        f"{where} offers no STARTTLS, and the password would go over the network in the open; "
                        "write BANDICOOT_ALARM_SMTP_URL as smtps://..., or without a user"
                    )
                server.login(self._user, self._password)
            server.send_message(mail)


def _is_refusal(error: OSError) -> bool:
    """Whether a mail server has said no for good; codes from 400 to 499 mean that it may say yes later."""
    if isinstance(error, smtplib.SMTPConnectError | smtplib.SMTPServerDisconnected):
        return False
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code >= 500
    return isinstance(error, smtplib.SMTPException)


def _escaped(text: str) -> str:
    """Slack reads these three characters as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
