"""What the code of the packages must never do, found in its syntax: one rule for each, and why.

What ruff and bandit find is left to them where they see it; here is what they do not see, or see only under some names.
Each rule looks at one node of a module's tree.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

_SECRET = re.compile(r"(secret|password|passwd|authorization|api_?key_?text|token|session_cookie)", re.IGNORECASE)
_DIGEST = re.compile(r"(secret|password|token|signature|hmac)", re.IGNORECASE)
_LOGGERS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_EXECUTORS = {"execute", "executemany", "raw_sql", "sql", "scalar", "scalars"}


@dataclass(frozen=True)
class Rule:
    """Something that is forbidden."""

    name: str
    message: str
    is_broken_by: Callable[[ast.AST, PurePath], bool]
    bad: str
    """A piece of code that breaks it."""


def findings(source: str, path: PurePath, rules: "tuple[Rule, ...] | None" = None) -> Iterator[str]:
    """Each place where a rule is broken, unless a comment there or on the line before says `allowed: <rule>, <why>`."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        for rule in RULES if rules is None else rules:
            if not rule.is_broken_by(node, path):
                continue
            first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", 1)
            if not re.search(rf"allowed: {rule.name}, \w", "\n".join(lines[max(first - 2, 0) : last])):
                yield f"{path}:{first}: {rule.name}: {rule.message}"


def _called(node: ast.AST) -> str:
    """The dotted name that a call calls; empty for what is no call of a name."""
    return _dotted(node.func) if isinstance(node, ast.Call) else ""


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


def _last(node: ast.AST) -> str:
    """The last name of what is called, also where it is called on a result."""
    if isinstance(node, ast.Call):
        return node.func.attr if isinstance(node.func, ast.Attribute) else _dotted(node.func)
    return ""


def _keyword(node: ast.Call, name: str) -> ast.expr | None:
    return next((each.value for each in node.keywords if each.arg == name), None)


def _is_constant(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_built(node: ast.AST) -> bool:
    """Whether a text is put together from values: an f-string with values, `%`, `+` or `.format`."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add):
        sides = (node.left, node.right)
        return any(_is_text(side) or _is_built(side) for side in sides)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            return _is_text(node.func.value)  # sql.SQL(...).format quotes what it puts in
        return _last(node) in ("SQL", "text") and bool(node.args) and _is_built(node.args[0])
    return False


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _sql_from_values(node: ast.AST, _path: PurePath) -> bool:
    return (
        isinstance(node, ast.Call)
        and (_last(node) in _EXECUTORS or _last(node) == "SQL")
        and bool(node.args)
        and _is_built(node.args[0])
    )


def _naive_moment(node: ast.AST, _path: PurePath) -> bool:
    name = _called(node)
    if not isinstance(node, ast.Call):
        return False
    if name.endswith(("datetime.utcnow", "datetime.utcfromtimestamp", "date.today", "datetime.today")):
        return True
    if name.endswith("datetime.now"):
        return not node.args and _keyword(node, "tz") is None
    return name.endswith("datetime.fromtimestamp") and len(node.args) < 2 and _keyword(node, "tz") is None


def _clock_elsewhere(node: ast.AST, path: PurePath) -> bool:
    return _called(node).endswith(("datetime.now", "datetime.utcnow")) and path.name != "clock.py"


def _pickle(node: ast.AST, _path: PurePath) -> bool:
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
    if isinstance(node, ast.Import):
        return any(name.name.partition(".")[0] in unsafe for name in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").partition(".")[0] in unsafe
    return _last(node) in ("read_pickle", "to_pickle")


def _evaluated(node: ast.AST, _path: PurePath) -> bool:
    if _called(node) in ("eval", "exec", "compile", "__import__"):
        return True
    is_load = _called(node) in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all")
    return is_load and isinstance(node, ast.Call) and "Safe" not in ast.dump(node)


def _shell(node: ast.AST, _path: PurePath) -> bool:
    if not isinstance(node, ast.Call):
        return False
    shell = _keyword(node, "shell")
    return _called(node) in ("os.system", "os.popen") or (shell is not None and not _is_constant(shell, False))


def _unverified(node: ast.AST, _path: PurePath) -> bool:
    if isinstance(node, ast.Call) and _is_constant(_keyword(node, "verify"), False):
        return True
    return _called(node).endswith("_create_unverified_context") or (
        isinstance(node, ast.Attribute) and node.attr == "CERT_NONE"
    )


def _swallowed(node: ast.AST, _path: PurePath) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    is_everything = node.type is None or _dotted(node.type) in ("Exception", "BaseException")
    is_silent = all(
        isinstance(each, ast.Pass | ast.Continue)
        or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        or (isinstance(each, ast.Return) and isinstance(each.value, ast.Constant | None))
        for each in node.body
    )
    return is_everything and is_silent


def _weak_hash(node: ast.AST, _path: PurePath) -> bool:
    if not isinstance(node, ast.Call) or _called(node) not in ("hashlib.md5", "hashlib.sha1", "hashlib.new"):
        return False
    return not _is_constant(_keyword(node, "usedforsecurity"), False)


def _compared_in_time(node: ast.AST, _path: PurePath) -> bool:
    if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
        return False
    sides = [node.left, *node.comparators]
    if any(isinstance(side, ast.Constant) for side in sides):
        return False
    names = [_dotted(side).rpartition(".")[2] or _last(side) for side in sides]
    return any(_DIGEST.search(name) for name in names)


def _logged_secret(node: ast.AST, _path: PurePath) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in _LOGGERS:
        return False
    if "log" not in _dotted(node.func.value).lower():
        return False
    inner = [each for argument in [*node.args, *(k.value for k in node.keywords)] for each in ast.walk(argument)]
    names = [each.id for each in inner if isinstance(each, ast.Name)]
    names += [each.attr for each in inner if isinstance(each, ast.Attribute)]
    names += [str(each.slice.value) for each in inner if isinstance(each, ast.Subscript) and _is_text(each.slice)]
    return any(_SECRET.search(name) for name in names)


def _unescaped_page(node: ast.AST, _path: PurePath) -> bool:
    if not isinstance(node, ast.Call):
        return _dotted(node) == "Markup" or (isinstance(node, ast.Attribute) and node.attr == "Markup")
    if _called(node).rpartition(".")[2] == "Environment":
        value = _keyword(node, "autoescape")
        return value is None or _is_constant(value, False)
    return False


def _printed(node: ast.AST, path: PurePath) -> bool:
    if _called(node) != "print" or not isinstance(node, ast.Call):
        return False
    return not (path.parts[0] == "bandicoot_dagster" and _dotted(_keyword(node, "file") or node) == "sys.stderr")


def _open_redirect(node: ast.AST, _path: PurePath) -> bool:
    """A redirection whose target is neither written out nor begins with a path of this service."""
    if not isinstance(node, ast.Call) or _called(node).rpartition(".")[2] != "RedirectResponse":
        return False
    target = node.args[0] if node.args else _keyword(node, "url")
    if isinstance(target, ast.JoinedStr):
        target = target.values[0] if target.values else None
    begins = target.value if isinstance(target, ast.Constant) and isinstance(target.value, str) else ""
    return not re.match(r"/(?![/\\])", begins)


RULES = (
    Rule(
        "sql-from-values",
        "SQL put together from values; pass them as parameters, names through sql.Identifier",
        _sql_from_values,
        "connection.execute(f'SELECT * FROM t WHERE id = {caregiver_id}')",
    ),
    Rule(
        "naive-moment",
        "a moment or day without a time zone; use aware instants, and calendar.day_of for days",
        _naive_moment,
        "datetime.datetime.fromtimestamp(seconds)",
    ),
    Rule(
        "clock-elsewhere",
        "asks the time; the moment is passed in, and only clock.py asks",
        _clock_elsewhere,
        "datetime.now(UTC)",
    ),
    Rule("pickle", "reading it runs code; use JSON, Parquet or skops", _pickle, "from pickle import loads"),
    Rule("evaluated", "data becomes code; parse it", _evaluated, "yaml.load(text)"),
    Rule("shell", "a shell reads the words; pass a list of them", _shell, "subprocess.run(line, shell=flag)"),
    Rule("unverified", "TLS whose certificate nobody checks", _unverified, "requests.get(url, verify=False)"),
    Rule(
        "swallowed",
        "any failure vanishes; name the exception, or log it",
        _swallowed,
        "try:\n    work()\nexcept Exception:\n    pass",
    ),
    Rule("weak-hash", "use SHA-256, or say usedforsecurity=False", _weak_hash, "hashlib.md5(secret)"),
    Rule(
        "compared-in-time",
        "its time tells how much is right; use hmac.compare_digest",
        _compared_in_time,
        "given_token == self.token",
    ),
    Rule(
        "logged-secret",
        "a log is read by many; log the key's id",
        _logged_secret,
        "_log.info('%s', request.headers['Authorization'])",
    ),
    Rule("unescaped-page", "text becomes HTML; escape it always", _unescaped_page, "jinja2.Environment(loader=loader)"),
    Rule("printed", "only the command line speaks; return it, or log it", _printed, "print(row)"),
    Rule(
        "open-redirect",
        "leads wherever a request says; begin the target with a path of this service",
        _open_redirect,
        "RedirectResponse(request.query_params['next'])",
    ),
)
