"""Bodies that hold one row or many, read without a word about rows: those are judged one by one."""

import json
from typing import Any

from fastapi import Request

from bandicoot_api.problems import Problem

MAX_ROWS = 10_000


async def rows_of(request: Request) -> list[dict[str, Any]]:
    """The rows of a body: a JSON object, or a list of objects. Problem 415, 400 or 422 for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "expected a body of type application/json")
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise Problem(400, "the body is not JSON in UTF-8") from error
    rows = found if isinstance(found, list) else [found]
    if not rows or len(rows) > MAX_ROWS:
        raise Problem(422, f"expected 1 to {MAX_ROWS:,} rows, found {len(rows):,}", details={"max_rows": MAX_ROWS})
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise Problem(422, f"row {number}: expected an object, found {type(row).__name__}", details={"row": number})
    return rows


def one_or_many(schema: dict[str, Any], example: list[dict[str, Any]]) -> dict[str, Any]:
    """The documentation of such a body."""
    rows = {"type": "array", "items": schema, "minItems": 1, "maxItems": MAX_ROWS}
    content = {"schema": {"oneOf": [schema, rows]}, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}
