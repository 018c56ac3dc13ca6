"""BigQuery's REST interface as far as its client asks it for a query, with DuckDB behind it.

The very SQL that was sent is executed, transpiled by sqlglot; so are the parameters, with their types. What is not
here: cost, quotas, jobs that outlast a request. A token is given to whoever signs for it, as Google's server does.
"""

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import sqlglot
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_TABLE = """
    service STRUCT(description VARCHAR), project STRUCT(id VARCHAR), usage_start_time TIMESTAMPTZ,
    usage_end_time TIMESTAMPTZ, cost DOUBLE, currency_conversion_rate DOUBLE,
    credits STRUCT(name VARCHAR, amount DOUBLE)[], _PARTITIONTIME TIMESTAMPTZ
"""
_TYPES = {"VARCHAR": "STRING", "DOUBLE": "FLOAT", "TIMESTAMP WITH TIME ZONE": "TIMESTAMP"}
_FROM_JSON = {"TIMESTAMP": "TIMESTAMPTZ", "STRING": "VARCHAR"}


@dataclass
class BigQuery:
    """A server with one table, the export of a billing account; `refusal` is what it answers instead when set."""

    address: str
    table: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    database: duckdb.DuckDBPyConnection = field(default_factory=duckdb.connect)

    def __post_init__(self) -> None:
        project, dataset, name = self.table.split(".")
        self.database.execute("SET TimeZone = 'UTC'")
        self.database.execute(f"ATTACH ':memory:' AS \"{project}\"")
        self.database.execute(f'CREATE SCHEMA "{project}"."{dataset}"')
        self.database.execute(f'CREATE TABLE "{project}"."{dataset}"."{name}" ({_TABLE})')

    def bill(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Export rows: service, project, start, end, cost, rate, credits, exported at."""
        where = ".".join(f'"{part}"' for part in self.table.split("."))
        for row in rows:
            service, project, *others, credits, exported_at = row
            self.database.execute(
                f"INSERT INTO {where} VALUES ({{'description': $1}}, {{'id': $2}}, $3, $4, $5, $6, $7, $8)",
                [
                    service,
                    project,
                    *others,
                    [{"name": "a credit", "amount": amount} for amount in credits],
                    exported_at,
                ],
            )

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What BigQuery answers to `jobs.query`."""
        self.asked.append(request)
        [sql] = sqlglot.transpile(request["query"], read="bigquery", write="duckdb")
        values = {}
        for parameter in request["queryParameters"]:
            name, kind = parameter["name"], parameter["parameterType"]["type"]
            sql = re.sub(rf"[@$]{name}\b", f"CAST($p_{name} AS {_FROM_JSON[kind]})", sql)
            values[f"p_{name}"] = parameter["parameterValue"].get("value")
        done = self.database.cursor().execute(sql, values)
        types = [_TYPES[str(column[1])] for column in done.description or []]
        names = [column[0] for column in done.description or []]
        rows = [{"f": [{"v": _as_json(value)} for value in row]} for row in done.fetchall()]
        return {
            "kind": "bigquery#queryResponse",
            "schema": {
                "fields": [{"name": n, "type": t, "mode": "NULLABLE"} for n, t in zip(names, types, strict=True)]
            },
            "jobReference": {"projectId": "p", "jobId": "j", "location": "asia-south1"},
            "totalRows": str(len(rows)),
            "rows": rows,
            "jobComplete": True,
            "totalBytesProcessed": "1000",
        }


def _as_json(value: Any) -> str | None:
    if isinstance(value, datetime):
        return str(round(value.timestamp() * 1_000_000))
    return None if value is None else str(value)


def service_account(folder: Path, address: str) -> Path:
    """A key file of a service account whose tokens the server at an address gives."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {
        "type": "service_account",
        "project_id": "bandicoot-project",
        "private_key_id": "k",
        "private_key": pem,
        "client_email": "bandicoot@bandicoot-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{address}/token",
    }
    file = folder / "service-account.json"
    file.write_text(json.dumps(account))
    return file


@contextmanager
def bigquery_server(table: str) -> Iterator[BigQuery]:
    """A server on the loopback, ended on exit."""
    served: list[BigQuery] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server = served[0]
            if self.path == "/token":
                self._send(200, {"access_token": "t", "expires_in": 3600, "token_type": "Bearer"})
            elif server.refusal is not None:
                status, message = server.refusal
                self._send(
                    status, {"error": {"code": status, "message": message, "errors": [{"reason": "accessDenied"}]}}
                )
            elif self.headers["Authorization"] == "Bearer t" and self.path.endswith("/queries?prettyPrint=false"):
                self._send(200, server.answer(json.loads(body)))
            else:
                self._send(404, {"error": {"code": 404, "message": self.path}})

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on standard error."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        served.append(BigQuery(f"http://127.0.0.1:{http.server_port}", table))
        yield served[0]
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
        served[0].database.close()
