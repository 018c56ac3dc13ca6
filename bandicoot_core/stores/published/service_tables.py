"""Contracts of the tables that only the service needs: its clients' keys, and a count of what changed since."""

from bandicoot_core.contracts import Column, TableContract

API_SCOPES = ("read", "call", "admin")
"""What a key may do: read lists and caregivers; also report calls and events; also start training."""

API_TIERS = ("fast", "standard")
"""How its recommendations are made: from the published list alone, or by ranking everybody as of now."""
FAST, STANDARD = API_TIERS

API_KEYS = TableContract(
    "api_keys",
    "Keys of the service's clients; of the secret in a key only a salted hash is kept",
    (
        Column("key_id", "string", "Public part of the key, which names it in logs"),
        Column("client", "string", "System that uses the key; it has at most two live ones"),
        Column("scopes", "string", "What it may do (read, call, admin), separated by a space"),
        Column("tier", "string", "How its recommendations are made", allowed=API_TIERS),
        Column("salt", "string", "Salt of the hash", unit="hex"),
        Column("secret_hash", "string", "SHA-256 of salt and secret", unit="hex"),
        Column("created_at", "timestamp", "When it was made", unit="UTC"),
        Column("expires_at", "timestamp", "From when on it is refused; empty for never", unit="UTC", is_nullable=True),
        Column("revoked_at", "timestamp", "When it was revoked", unit="UTC", is_nullable=True),
    ),
    key=("key_id",),
)

NOTED_OPENS = TableContract(
    "noted_opens",
    "How often opens have changed bandicoot.caregiver_states; one row, or none before the first",
    (
        Column("is_only", "bool", "Always true: there is one row"),
        Column("n_batches", "int64", "Batches of opens that changed a row", unit="batches", minimum=0),
    ),
    key=("is_only",),
)
