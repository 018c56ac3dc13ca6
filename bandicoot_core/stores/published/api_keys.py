"""Keys of the service's clients: made, replaced, revoked, and checked without telling anything by the time it takes.

A key is the text `bdc_<key_id>_<secret>`. The secret has 256 random bits, so that a salted SHA-256 of it can neither be
guessed nor undone, and checking costs a microsecond. What a key may do is decided by the service.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from bandicoot_core.stores.postgres.connections import reading

_TEXT = re.compile(r"bdc_([a-z0-9]{12})_([A-Za-z0-9_-]{43})")
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"

_SELECT = """
    SELECT key_id, client, scopes, tier, salt, secret_hash, created_at, expires_at, revoked_at
    FROM bandicoot.api_keys ORDER BY client, created_at, key_id
"""
_INSERT = """
    INSERT INTO bandicoot.api_keys (key_id, client, scopes, tier, salt, secret_hash, created_at, expires_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret; instants are UTC."""

    key_id: str
    client: str
    scopes: frozenset[str]
    tier: str
    salt: str
    secret_hash: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_live(self, now: datetime) -> bool:
        """Whether it is valid at a moment."""
        return (self.expires_at is None or now < self.expires_at) and (self.revoked_at is None or now < self.revoked_at)


def parse_key(text: str) -> tuple[str, str] | None:
    """key_id and secret of a key's text; None for any other text."""
    found = _TEXT.fullmatch(text) if len(text) == 60 else None
    return (found[1], found[2]) if found else None


def is_right(key: ApiKey | None, secret: str) -> bool:
    """Whether the secret is the key's; the same work is done when there is no key."""
    salt, expected = (key.salt, key.secret_hash) if key is not None else ("0" * 32, "0" * 64)
    return hmac.compare_digest(_hash(salt, secret), expected) and key is not None


def create_key(
    connection: psycopg.Connection,
    client: str,
    *,
    scopes: Iterable[str],
    tier: str,
    created_at: datetime,
    expires_at: datetime | None = None,
) -> tuple[str, ApiKey]:
    """A new key: its text, which is nowhere else, and what is kept of it."""
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(12))
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    salt = secrets.token_hex(16)
    key = ApiKey(key_id, client, frozenset(scopes), tier, salt, _hash(salt, secret), created_at, expires_at)
    connection.execute(
        _INSERT,
        (key_id, client, " ".join(sorted(scopes)), tier, salt, key.secret_hash, created_at, expires_at),
    )
    return f"bdc_{key_id}_{secret}", key


def list_keys(connection: psycopg.Connection) -> list[ApiKey]:
    """Every key, revoked ones included, by client and age."""
    with reading(connection, "reading keys"), connection.cursor(row_factory=dict_row) as cursor:
        return [ApiKey(**{**row, "scopes": frozenset(row["scopes"].split())}) for row in cursor.execute(_SELECT)]


def keys_as_json(keys: Sequence[ApiKey]) -> bytes:
    """Keys as text, for another store."""
    return json.dumps([{**asdict(key), "scopes": sorted(key.scopes)} for key in keys], default=str).encode()


def keys_from_json(text: bytes) -> list[ApiKey]:
    """Keys from keys_as_json; ValueError for any other text."""
    try:
        return [_key(row) for row in json.loads(text)]
    except (TypeError, KeyError) as error:
        raise ValueError("expected a list of keys") from error


def _key(row: dict[str, Any]) -> ApiKey:
    times = {
        name: None if row[name] is None else datetime.fromisoformat(row[name])
        for name in ("created_at", "expires_at", "revoked_at")
    }
    return ApiKey(**{**row, **times, "scopes": frozenset(row["scopes"])})


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode()).hexdigest()
