"""The commands for keys of the service, and the operations guide's section on them, executed block by block."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bandicoot_core.calendar import day_of, end_of_day
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.api_keys import ApiKey, is_right, list_keys, parse_key
from bandicoot_core.stores.published.roles import apply_roles
from bandicoot_core.stores.published.service_tables import API_SCOPES, API_TIERS
from bandicoot_dagster.cli import main

GUIDE = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture(autouse=True)
def _owner(published_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands run as the schema's owner."""
    monkeypatch.setenv("BANDICOOT_DATABASE_URL", published_url)


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["api", "keys", *arguments])


def stored(url: str) -> list[ApiKey]:
    with connect(url) as connection:
        return list_keys(connection)


def opens(text: str, key: ApiKey) -> bool:
    parsed = parse_key(text)
    return parsed is not None and parsed[0] == key.key_id and is_right(key, parsed[1])


def test_a_made_key_stands_alone_on_standard_output_and_opens(published_url: str) -> None:
    made = keys("create", "--client", "centre 7", "--scope", "read", "--scope", "call", "--tier", "fast")
    assert (made.exit_code, made.stdout.count("\n")) == (0, 1)
    (key,) = stored(published_url)
    assert opens(made.stdout.removesuffix("\n"), key)
    assert (key.client, key.scopes, key.tier, key.expires_at) == ("centre 7", {"read", "call"}, "fast", None)
    assert f"key {key.key_id} of centre 7: may call, read, tier fast, valid until it is revoked" in made.stderr
    assert made.stdout.strip() not in made.stderr
    assert datetime.now(UTC) - key.created_at < timedelta(minutes=1)


def test_a_key_is_valid_to_the_end_of_its_last_day_in_india(published_url: str) -> None:
    today = day_of(datetime.now(UTC))
    made = keys("create", "--client", "centre 7", "--scope", "read", "--expires", str(today))
    (key,) = stored(published_url)
    assert key.expires_at == end_of_day(today)
    assert f"valid until {today + timedelta(days=1)} 00:00" in made.stderr
    late = keys("create", "--client", "centre 7", "--scope", "read", "--expires", str(today - timedelta(days=1)))
    assert (late.exit_code, late.stdout) == (3, "")
    assert "a moment after the key is made" in late.stderr
    unreadable = keys("create", "--client", "centre 7", "--scope", "read", "--expires", "31.12.2030")
    assert (unreadable.exit_code, "write it as YYYY-MM-DD" in unreadable.stderr) == (3, True)


def test_the_list_shows_every_key_with_its_state_and_nothing_that_opens(published_url: str) -> None:
    assert keys("list").stdout == "there is no key yet; `bandicoot api keys create` makes one\n"
    texts = [keys("create", "--client", name, "--scope", "read").stdout.strip() for name in ("centre 7", "portal")]
    of_centre, of_portal = stored(published_url)
    with connect(published_url) as connection:
        connection.execute(
            "INSERT INTO bandicoot.api_keys (key_id, client, scopes, tier, salt, secret_hash, created_at, expires_at) "
            "SELECT 'expired00000', 'old', scopes, tier, salt, secret_hash, created_at - interval '2 day', "
            "created_at - interval '1 day' FROM bandicoot.api_keys LIMIT 1"
        )
    keys("revoke", of_portal.key_id)
    shown = keys("list").stdout
    assert re.split(r"\s{2,}", shown.splitlines()[0]) == [
        "client",
        "key",
        "scopes",
        "tier",
        "made",
        "expires",
        "status",
    ]
    rows = {row[1]: row for row in (re.split(r"\s{2,}", line.strip()) for line in shown.splitlines()[2:])}
    assert rows[of_centre.key_id][0:4] == ["centre 7", of_centre.key_id, "read", "standard"]
    assert rows[of_centre.key_id][5:] == ["never", "live"]
    assert rows[of_portal.key_id][6].startswith("revoked 20")
    assert rows["expired00000"][6] == "expired"
    for key, text in zip((of_centre, of_portal), texts, strict=True):
        for hidden in (text, text[17:], key.salt, key.secret_hash):
            assert hidden not in shown


def test_a_rotated_key_is_printed_like_a_new_one_and_the_old_ones_end_is_told(published_url: str) -> None:
    keys("create", "--client", "centre 7", "--scope", "call")
    (old,) = stored(published_url)
    rotated = keys("rotate", old.key_id)
    old, new = stored(published_url)
    assert (rotated.exit_code, rotated.stdout.count("\n")) == (0, 1)
    assert opens(rotated.stdout.strip(), new)
    assert old.expires_at == new.created_at + timedelta(days=7)
    assert f"the old key {old.key_id} is valid until 20" in rotated.stderr
    third = keys("rotate", "centre 7")
    assert (third.exit_code, third.stdout) == (3, "")
    assert old.key_id in third.stderr
    assert new.key_id in third.stderr
    keys("revoke", old.key_id)
    at_once = keys("rotate", "centre 7", "--overlap-days", "0", "--expires", "2099-12-31")
    newest = stored(published_url)[-1]
    assert opens(at_once.stdout.strip(), newest)
    assert f"the old key {new.key_id} is revoked" in at_once.stderr
    assert newest.expires_at is not None
    assert [key.key_id for key in stored(published_url) if key.is_live(datetime.now(UTC))] == [newest.key_id]


def test_a_revoked_key_may_be_revoked_again_and_an_unknown_one_is_told(published_url: str) -> None:
    keys("create", "--client", "centre 7", "--scope", "read")
    (key,) = stored(published_url)
    answers = [keys("revoke", key.key_id) for _ in range(2)]
    assert [(answer.exit_code, answer.stdout) for answer in answers] == [(0, ""), (0, "")]
    assert "BANDICOOT_API_KEYS_SECONDS" in answers[0].stderr
    assert answers[0].stderr == answers[1].stderr
    unknown = keys("revoke", "abcdefghijkl")
    assert (unknown.exit_code, "no key 'abcdefghijkl'" in unknown.stderr) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["--client", "centre 7"], 2),
        (["--scope", "read"], 2),
        (["--client", "centre 7", "--scope", "write"], 3),
        (["--client", "two\nlines", "--scope", "read"], 3),
        (["--client", "centre 7", "--scope", "read", "--tier", "slow"], 3),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_and_nothing_is_printed(
    published_url: str, arguments: list[str], exit_code: int
) -> None:
    refused = keys("create", *arguments)
    assert (refused.exit_code, refused.stdout) == (exit_code, "")
    assert stored(published_url) == []


def test_who_is_not_the_owner_is_told_who_lists_keys(published_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(published_url) as connection:
        apply_roles(connection)
    monkeypatch.setenv("BANDICOOT_DATABASE_URL", f"{published_url}&options=-c%20role%3Dbandicoot_writer")
    # A writer makes no room for Dagster beside the tables.
    monkeypatch.setenv("BANDICOOT_DAGSTER_STORAGE_URL", published_url.replace("postgresql:", "postgresql+psycopg2:"))
    refused = keys("list")
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "by the owner of schema bandicoot" in refused.stderr


def test_the_help_names_every_scope_and_tier() -> None:
    shown = keys("create", "--help").stdout
    assert "|".join(API_SCOPES) in shown
    assert all(tier in shown for tier in API_TIERS)


def test_a_log_in_json_holds_no_key(published_url: str) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "bandicoot_dagster.cli", "api", "keys", "create", "--client", "c", "--scope", "read"],
        env=os.environ | {"BANDICOOT_LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    (key,) = stored(published_url)
    assert opens(made.stdout.removesuffix("\n"), key)
    assert made.stdout.strip()[17:] not in made.stderr
    assert key.key_id in made.stderr
    assert all(line.startswith("{") for line in made.stderr.splitlines())


def test_the_guide_makes_replaces_and_revokes_a_key(published_url: str) -> None:
    section = GUIDE.read_text().split("\n## Keys of the service\n")[1].split("\n## ")[0]
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'{script}\necho "$KEY" "$NEXT"'],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    key, following = done.stdout.splitlines()[-1].split(" ")
    old, new = stored(published_url)
    assert opens(key, old)
    assert opens(following, new)
    now = datetime.now(UTC)
    assert (old.is_live(now), new.is_live(now)) == (False, True)
    assert new.scopes == {"read", "call"}


@pytest.mark.parametrize("part", ["`--scope", "`--tier", "`--expires"])
def test_every_option_in_the_guides_table_is_taken(part: str) -> None:
    section = GUIDE.read_text().split("\n## Keys of the service\n")[1].split("\n## ")[0]
    cells = [line.split(" | ")[0] for line in section.splitlines() if line.startswith(f"| {part}")]
    examples = [example.split(" ") for cell in cells for example in re.findall(r"`(--.*?)`", cell)]
    assert examples
    for number, (option, value) in enumerate(examples):
        chosen = {"--client": f"client {number}", "--scope": "read", option: value}
        assert keys("create", *(word for pair in chosen.items() for word in pair)).exit_code == 0
