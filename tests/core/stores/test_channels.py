"""Alarms over a real HTTP server and a real SMTP server in this process."""

from collections.abc import Iterator

import pytest
from aiosmtpd.controller import Controller

from bandicoot_core.errors import InvalidSettingError, RefusedWriteError, UnreachableError
from bandicoot_core.settings import Settings, load_settings
from bandicoot_core.stores.channels import Channel, open_channels
from tests.servers.alarm_receivers import Hook, smtp_server
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.processes import free_port, private_folder


def webhook(hook: Hook, **overrides: object) -> Channel:
    [channel] = open_channels(load_settings(alarm_webhook_url=hook.url, **overrides))
    return channel


def mail(server: Controller, login: str = "robot:p%40ss@") -> Channel:
    settings = load_settings(
        alarm_smtp_url=f"smtp://{login}127.0.0.1:{server.port}",
        alarm_email_from="bandicoot@example.org",
        alarm_email_to=("night@example.org", "day@example.org"),
    )
    [channel] = open_channels(settings)
    return channel


def test_a_webhook_gets_the_message_as_slack_reads_it(hook: Hook) -> None:
    webhook(hook).send("the list is late", "n < 3 & late")
    assert hook.posted == [{"text": "*the list is late*\nn &lt; 3 &amp; late"}]


@pytest.mark.parametrize(
    ("status", "kind"), [(500, UnreachableError), (429, UnreachableError), (404, RefusedWriteError)]
)
def test_a_webhook_that_does_not_take_a_message_is_an_error_that_keeps_the_secret(
    hook: Hook, status: int, kind: type[Exception]
) -> None:
    hook.status = status
    with pytest.raises(kind, match=rf"127\.0\.0\.1 answers {status}") as raised:
        webhook(hook).send("s", "t")
    assert "secret-part" not in str(raised.value)


def test_a_webhook_that_does_not_answer_in_time_is_given_up(hook: Hook) -> None:
    hook.released.clear()
    with pytest.raises(UnreachableError, match="does not answer within") as raised:
        webhook(hook, alarm_timeout_seconds=0.2).send("s", "t")
    assert "secret-part" not in str(raised.value)


def test_a_mail_reaches_all_receivers(mail_server: Controller) -> None:
    mail(mail_server).send("die Liste ist spät", "cause: because")
    [found] = mail_server.handler.mails
    assert found["To"] == "night@example.org, day@example.org"
    assert found["From"] == "bandicoot@example.org"
    assert found.get_payload(decode=True) == b"cause: because\r\n"


def test_a_wrong_password_or_a_refused_mail_says_what_to_look_at(mail_server: Controller) -> None:
    with pytest.raises(RefusedWriteError, match="user, password, sender and receivers") as raised:
        mail(mail_server, "robot:wrong-one@").send("s", "t")
    assert "wrong-one" not in str(raised.value)
    mail_server.handler.refusal = "554 not today"
    with pytest.raises(RefusedWriteError, match="not today"):
        mail(mail_server).send("s", "t")


def test_a_mail_server_that_is_gone_is_an_error(mail_server: Controller) -> None:
    mail_server.port = free_port()
    with pytest.raises(UnreachableError, match="does not answer"):
        mail(mail_server).send("s", "t")


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    with private_folder("mail") as folder:
        yield make_certificates(folder)


@pytest.fixture(params=["smtp", "smtps"])
def encrypted(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[tuple[str, Controller]]:
    """A mail server with TLS, by STARTTLS or at once, and the scheme that leads to it."""
    with smtp_server(certificates, is_smtps=request.param == "smtps") as server:
        yield request.param, server


def encrypted_mail(encrypted: tuple[str, Controller], host: str) -> Channel:
    scheme, server = encrypted
    settings = load_settings(
        alarm_smtp_url=f"{scheme}://robot:p%40ss@{host}:{server.port}",
        alarm_email_from="bandicoot@example.org",
        alarm_email_to=("night@example.org",),
    )
    [channel] = open_channels(settings)
    return channel


def test_a_mail_goes_over_tls_to_the_server_that_its_authority_vouches_for(
    encrypted: tuple[str, Controller], certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    encrypted_mail(encrypted, "localhost").send("the list is late", "cause: because")
    [found] = encrypted[1].handler.mails
    assert found["Subject"] == "the list is late"


def test_a_server_whose_authority_is_unknown_gets_neither_password_nor_mail(
    encrypted: tuple[str, Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(RefusedWriteError, match=r"certificate .*SSL_CERT_FILE") as raised:
        encrypted_mail(encrypted, "localhost").send("s", "t")
    assert "p@ss" not in str(raised.value)
    assert encrypted[1].handler.mails == []


def test_a_certificate_of_another_host_is_refused(
    encrypted: tuple[str, Controller], certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    with pytest.raises(RefusedWriteError, match=r"127\.0\.0\.1:\d+ shows a certificate .*IP address mismatch"):
        encrypted_mail(encrypted, "127.0.0.1").send("s", "t")
    assert encrypted[1].handler.mails == []


def test_no_setting_means_no_channel_and_a_wrong_one_is_refused_without_showing_it() -> None:
    assert open_channels(Settings()) == []
    for setting in (
        {"alarm_webhook_url": "hooks.example.org/secret-part"},
        {"alarm_smtp_url": "robot:secret-part@host", "alarm_email_from": "a@b.c", "alarm_email_to": ("a@b.c",)},
    ):
        with pytest.raises(InvalidSettingError, match="cannot be used") as raised:
            open_channels(load_settings(**setting))
        assert "secret-part" not in str(raised.value)
    with pytest.raises(InvalidSettingError, match="BANDICOOT_ALARM_EMAIL_TO"):
        load_settings(alarm_smtp_url="smtp://host")
