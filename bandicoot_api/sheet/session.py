"""Who is signed in to the call sheet: a signed cookie that names a key, and the token that its forms carry.

Nothing is kept here: every process with the same secret knows the same sessions, and the key a session names is looked
up at each request, so that a session ends with its key. What a key may do is decided by the routes.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

LASTS = timedelta(hours=12)
"""From signing in to the end of a session: a working day."""

_CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead the clock of another process may be."""

_COOKIE = re.compile(r"(([a-z0-9]{12})\.(\d{10})\.(\d{10})\.[A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})")
_TOKEN_BYTES = 32


@dataclass(frozen=True)
class Session:
    """One signing in."""

    key_id: str
    issued_at: datetime
    expires_at: datetime
    signed: str
    """What the cookie signs; another for each signing in."""


class Sessions:
    """Makes and checks cookies and tokens with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._cookie_secret = hmac.digest(secret, b"bandicoot session cookie", "sha256")
        self._token_secret = hmac.digest(secret, b"bandicoot form token", "sha256")

    def begin(self, key_id: str, now: datetime) -> str:
        """The cookie of a new session of a key."""
        issued = int(now.timestamp())
        expires = issued + int(LASTS.total_seconds())
        signed = f"{key_id}.{issued}.{expires}.{secrets.token_urlsafe(16)}"
        return f"{signed}.{_text(hmac.digest(self._cookie_secret, signed.encode(), 'sha256'))}"

    def find(self, cookie: str, now: datetime) -> Session | None:
        """The session of a cookie; None when it was not made here, or is over."""
        found = _COOKIE.fullmatch(cookie) if len(cookie) <= 120 else None
        if found is None:
            return None
        signed, key_id, issued, expires, signature = found.groups()
        expected = _text(hmac.digest(self._cookie_secret, signed.encode(), "sha256"))
        if not hmac.compare_digest(expected, signature):
            return None
        issued_at = datetime.fromtimestamp(int(issued), UTC)
        expires_at = datetime.fromtimestamp(int(expires), UTC)
        if not issued_at - _CLOCK_SKEW <= now < expires_at:
            return None
        return Session(key_id, issued_at, expires_at, signed)

    def token(self, session: Session) -> str:
        """The token of a session's forms, masked anew each time.

        Pages are compressed, and the length of a compressed page tells something of what is in it to who may choose
        other parts of it (BREACH). A token that looks different on each page tells nothing.
        """
        mask = secrets.token_bytes(_TOKEN_BYTES)
        return _text(mask + _xor(mask, self._token(session)))

    def is_token(self, session: Session, text: str) -> bool:
        """Whether a text is a token of this session."""
        try:
            found = base64.b64decode(text.encode("ascii") + b"==", altchars=b"-_", validate=True)
        except ValueError:
            return False
        if len(found) != 2 * _TOKEN_BYTES:
            return False
        return hmac.compare_digest(_xor(found[:_TOKEN_BYTES], found[_TOKEN_BYTES:]), self._token(session))

    def _token(self, session: Session) -> bytes:
        return hmac.digest(self._token_secret, session.signed.encode(), "sha256")


def open_sessions(secret: SecretStr | None) -> Sessions:
    """Sessions by the configured secret, or else by one of this process alone."""
    return Sessions(secret.get_secret_value().encode() if secret is not None else secrets.token_bytes(32))


def place_of(address: str) -> str:
    """One of 4096 names for addresses, so that counting by address takes no more memory than that, and keeps none."""
    return hashlib.sha256(address.encode()).hexdigest()[:3]


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
