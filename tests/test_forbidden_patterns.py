"""No module of the packages does what is forbidden, and the rules find what they are for."""

from pathlib import Path, PurePath

import pytest

from tests.forbidden_patterns import RULES, Rule, findings

ROOT = Path(__file__).parents[1]
PACKAGES = ("bandicoot_api", "bandicoot_core", "bandicoot_dagster")
HERE = PurePath("bandicoot_core/somewhere.py")

ALLOWED = """
connection.execute("SELECT * FROM t WHERE id = %s", (caregiver_id,))
connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name)))
datetime.fromtimestamp(seconds, UTC)
yaml.safe_load(text)
subprocess.run(["ls", folder], shell=False)
requests.get(url)
hashlib.md5(text, usedforsecurity=False)
hmac.compare_digest(given_token, token)
_log.info("key %s is refused", key.key_id)
jinja2.Environment(loader=loader, autoescape=True)
RedirectResponse("/", status_code=303)
RedirectResponse(f"/?district={quote(district)}", status_code=303)
try:
    work()
except OSError:
    pass
try:
    work()
except Exception:
    _log.exception("it failed")
"""


def test_no_module_does_what_is_forbidden() -> None:
    modules = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(modules) > 100
    found = [line for path in modules for line in findings(path.read_text(), path.relative_to(ROOT))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_finds_what_it_is_for(rule: Rule) -> None:
    assert list(findings(rule.bad, HERE, (rule,))) == [f"{HERE}:{_line(rule)}: {rule.name}: {rule.message}"]


@pytest.mark.parametrize(
    "bad",
    [
        "cursor.execute('SELECT ' + column)",
        "cursor.execute('SELECT %s' % column)",
        "cursor.execute('SELECT {}'.format(column))",
        "connection.execute(text(f'SELECT {column}'))",
        "cursor.execute(sql.SQL(f'SELECT {column}').format())",
        "datetime.now()",
        "datetime.utcnow()",
        "date.today()",
        "eval(text)",
        "os.system(line)",
        "ssl._create_unverified_context()",
        "context.verify_mode = ssl.CERT_NONE",
        "try:\n    work()\nexcept:\n    pass",
        "try:\n    work()\nexcept BaseException:\n    return None",
        "hashlib.new('md5', text)",
        "hash_of(text) != key.secret_hash",
        "log.warning('wrong', extra={'it': settings.password})",
        "jinja2.Environment(autoescape=False)",
        "markupsafe.Markup(text)",
        "RedirectResponse(url=target)",
        "RedirectResponse('//elsewhere.example')",
        "RedirectResponse(f'{target}/')",
        "frame.to_pickle(path)",
        "import shelve",
    ],
)
def test_the_same_in_other_words_is_found_too(bad: str) -> None:
    assert list(findings(bad, HERE))


def test_what_is_right_is_not_found() -> None:
    assert list(findings(ALLOWED, HERE)) == []


def test_an_exception_says_which_rule_and_why() -> None:
    assert not list(findings("print(row)  # allowed: printed, the command's result", HERE))
    assert list(findings("print(row)  # allowed: printed", HERE))
    assert list(findings("print(row)  # allowed: shell, the command's result", HERE))


def test_only_the_clock_asks_the_time() -> None:
    assert not list(findings("datetime.now(UTC)", PurePath("bandicoot_dagster/clock.py")))


def _line(rule: Rule) -> int:
    return 3 if rule.bad.startswith("try") else 1
