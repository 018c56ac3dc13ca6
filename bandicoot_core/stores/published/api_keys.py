"""Keys of the service's clients: made, replaced, revoked, and checked without telling anything by the time it takes.

A key is the text `bdc_<key_id>_<secret>`. The secret has 256 random bits, so that a salted SHA-256 of it can neither be
guessed nor undone, and checking costs a microsecond. A client has at most two live keys: an old one and the one that
replaces it. No key is ever deleted, so that old logs can be read. What a key may do is decided by the service.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from bandicoot_core.errors import InvalidInputError, MissingRightError
from bandicoot_core.stores.postgres.connections import Lock, lock, reading, whole_transaction
from bandicoot_core.stores.published.contract_checks import require_instant
from bandicoot_core.stores.published.service_tables import API_SCOPES, API_TIERS

MAX_LIVE = 2
"""Live keys of one client: one in use, and while it is replaced, the next."""

OVERLAP = timedelta(days=7)
"""How long a replaced key stays valid unless something else is said."""

_TEXT = re.compile(r"bdc_([a-z0-9]{12})_([A-Za-z0-9_-]{43})")
_ID = re.compile(r"[a-z0-9]{12}")
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_CLIENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._@/-]{0,58}[A-Za-z0-9])?")

_SELECT: LiteralString = """
    SELECT key_id, client, scopes, tier, salt, secret_hash, created_at, expires_at, revoked_at FROM bandicoot.api_keys
"""
_IN_ORDER: LiteralString = " ORDER BY client, created_at, key_id"
_INSERT = """
    INSERT INTO bandicoot.api_keys (key_id, client, scopes, tier, salt, secret_hash, created_at, expires_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
# A key that was to expire sooner does not live longer because it was replaced.
_EXPIRE = "UPDATE bandicoot.api_keys SET expires_at = least(expires_at, %s) WHERE key_id = %s"
_REVOKE = "UPDATE bandicoot.api_keys SET revoked_at = least(revoked_at, %s) WHERE key_id = %s"


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
    """A new key: its text, which is nowhere else, and what is kept of it. Committed when this returns.

    Raises InvalidInputError when a value is out of its bounds, when the client has two live keys already, or when the
    user may not make keys.
    """
    text, key = _new_key(client, scopes, tier, created_at, expires_at)
    with _changing(connection, "making a key"):
        live = [held for held in _keys_of(connection, client) if held.is_live(created_at)]
        if len(live) >= MAX_LIVE:
            raise _too_many(live)
        _insert(connection, key)
    return text, key


def rotate_key(
    connection: psycopg.Connection,
    client_or_key_id: str,
    *,
    now: datetime,
    overlap: timedelta = OVERLAP,
    expires_at: datetime | None = None,
) -> tuple[str, ApiKey, ApiKey]:
    """A new key in place of a client's one live key: its text, what is kept of it, and the old key as it is now.

    The new one has the old one's client, scopes and tier. The old one expires after `overlap`, or sooner if it was to;
    with no overlap it is revoked. Committed when this returns. Raises InvalidInputError when there is no such key or
    client, when it has no live key, or two, or when the user may not make keys.
    """
    if overlap < timedelta(0):
        raise InvalidInputError(f"overlap: expected 0 days or more, found {overlap}")
    require_instant(now, "now")
    name = _name(client_or_key_id)
    with _changing(connection, "replacing a key"):
        named = _select(connection, "WHERE key_id = %s", name)
        client = named[0].client if named else name
        held = _keys_of(connection, client)
        if not held:
            raise _unknown(name, "key or client")
        live = [key for key in held if key.is_live(now)]
        if len(live) >= MAX_LIVE:
            raise _too_many(live)
        if not live or (named and live[0].key_id != named[0].key_id):
            what = f"key {named[0].key_id}" if named else f"every key of client {client!r}"
            remedy = f"rotate {live[0].key_id}, which is live" if live else "make one with `bandicoot api keys create`"
            raise InvalidInputError(f"{what} has expired or is revoked, so that nothing can be replaced; {remedy}")
        old = live[0]
        text, key = _new_key(client, old.scopes, old.tier, now, expires_at)
        if overlap:
            connection.execute(_EXPIRE, (now + overlap, old.key_id))
        else:
            connection.execute(_REVOKE, (now, old.key_id))
        _insert(connection, key)
        return text, key, _select(connection, "WHERE key_id = %s", old.key_id)[0]


def revoke_key(connection: psycopg.Connection, key_id: str, *, now: datetime) -> ApiKey:
    """The key, refused from now on; one that is revoked already stays as it is. Committed when this returns.

    Raises InvalidInputError when there is no such key, or when the user may not revoke keys.
    """
    require_instant(now, "now")
    key_id = _name(key_id)
    with _changing(connection, "revoking a key"):
        connection.execute(_REVOKE, (now, key_id))
        found = _select(connection, "WHERE key_id = %s", key_id)
        if not found:
            raise _unknown(key_id, "key")
        return found[0]


def list_keys(connection: psycopg.Connection) -> list[ApiKey]:
    """Every key, revoked ones included, by client and age."""
    with reading(connection, "reading keys"), _rights_explained():
        return _select(connection, "")


def keys_as_json(keys: Sequence[ApiKey]) -> bytes:
    """Keys as text, for another store."""
    return json.dumps([{**asdict(key), "scopes": sorted(key.scopes)} for key in keys], default=str).encode()


def keys_from_json(text: bytes) -> list[ApiKey]:
    """Keys from keys_as_json; ValueError for any other text."""
    try:
        rows = json.loads(text)
        if not isinstance(rows, list):
            raise ValueError("expected a list of keys")
        return [_key(row) for row in rows]
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError("expected a list of keys") from error


def _key(row: dict[str, Any]) -> ApiKey:
    times = {
        name: None if row[name] is None else datetime.fromisoformat(row[name])
        for name in ("created_at", "expires_at", "revoked_at")
    }
    key = ApiKey(**{**row, **times, "scopes": frozenset(row["scopes"])})
    is_whole = (
        _ID.fullmatch(key.key_id)
        and isinstance(key.client, str)
        and key.scopes <= set(API_SCOPES)
        and key.tier in API_TIERS
        and re.fullmatch("[0-9a-f]{32}", key.salt)
        and re.fullmatch("[0-9a-f]{64}", key.secret_hash)
        and times["created_at"] is not None
        and all(moment is None or moment.tzinfo is not None for moment in times.values())
    )
    if not is_whole:
        raise ValueError("expected the fields of a key")
    return key


def _new_key(
    client: str, scopes: Iterable[str], tier: str, created_at: datetime, expires_at: datetime | None
) -> tuple[str, ApiKey]:
    granted = frozenset(scopes)
    if not _CLIENT.fullmatch(client):
        raise InvalidInputError(
            f"client: {client!r} is no name of a client; expected 1 to 60 letters, digits, spaces and ._@/-, with a "
            "letter or digit first and last"
        )
    if not granted or not granted <= set(API_SCOPES):
        found = ", ".join(sorted(granted)) or "none"
        raise InvalidInputError(f"scopes: expected one or more of {', '.join(API_SCOPES)}; found {found}")
    if tier not in API_TIERS:
        raise InvalidInputError(f"tier: expected {' or '.join(API_TIERS)}; found {tier!r}")
    require_instant(created_at, "created_at")
    if expires_at is not None and require_instant(expires_at, "expires_at") <= created_at:
        raise InvalidInputError(
            f"expires_at: expected a moment after the key is made ({created_at.isoformat()}), found "
            f"{expires_at.isoformat()}"
        )
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(12))
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    salt = secrets.token_hex(16)
    key = ApiKey(key_id, client, granted, tier, salt, _hash(salt, secret), created_at, expires_at)
    return f"bdc_{key_id}_{secret}", key


@contextmanager
def _changing(connection: psycopg.Connection, doing: str) -> Iterator[None]:
    with whole_transaction(connection, doing), _rights_explained():
        yield


@contextmanager
def _rights_explained() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise MissingRightError(
            "keys are made, replaced, revoked and listed by the owner of schema bandicoot, and this user is another; "
            "set BANDICOOT_DATABASE_URL to the owner's, then run again"
        ) from error


def _keys_of(connection: psycopg.Connection, client: str) -> list[ApiKey]:
    """The client's keys, which nobody else changes or adds to before the end of the transaction."""
    lock(connection, Lock.API_KEYS, zlib.crc32(client.encode()) - 2**31)
    return _select(connection, "WHERE client = %s", client, locking=" FOR UPDATE")


def _select(
    connection: psycopg.Connection, where: LiteralString, *values: object, locking: LiteralString = ""
) -> list[ApiKey]:
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_SELECT + where + _IN_ORDER + locking, values)
        return [ApiKey(**{**row, "scopes": frozenset(row["scopes"].split())}) for row in found]


def _insert(connection: psycopg.Connection, key: ApiKey) -> None:
    scopes = " ".join(sorted(key.scopes))
    values = (key.key_id, key.client, scopes, key.tier, key.salt, key.secret_hash, key.created_at, key.expires_at)
    connection.execute(_INSERT, values)


def _too_many(live: Sequence[ApiKey]) -> InvalidInputError:
    ids = " and ".join(key.key_id for key in live)
    return InvalidInputError(
        f"client {live[0].client!r} has {len(live)} live keys already ({ids}), and may have {MAX_LIVE}; revoke the one "
        "that nobody uses any more with `bandicoot api keys revoke KEY_ID`, then run again"
    )


def _name(text: str) -> str:
    """What a person named: of a whole key only its public part, so that no message shows the secret."""
    parsed = parse_key(text.strip())
    return parsed[0] if parsed else text


def _unknown(name: str, what: str) -> InvalidInputError:
    shown = "of this text" if "bdc_" in name else repr(name)
    return InvalidInputError(f"there is no {what} {shown}; `bandicoot api keys list` shows those there are")


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode()).hexdigest()
