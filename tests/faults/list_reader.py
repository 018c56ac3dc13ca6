"""A consumer that reads the list of a day all the time, over a connection of its own, and counts what is not whole."""

import threading
import time
from datetime import date

import psycopg

_QUERY = """
    SELECT published.n_rows, published.run_id, count(listed.rank), min(listed.rank), max(listed.rank),
        count(DISTINCT listed.rank), count(DISTINCT (listed.run_id, listed.published_at)), min(listed.run_id)
    FROM bandicoot.list_publications AS published
    LEFT JOIN bandicoot.current_call_list AS listed USING (call_date)
    WHERE call_date = %s GROUP BY published.n_rows, published.run_id
"""


class ListReader:
    """Polls in a thread until closed; a context manager. `n_half` must stay 0."""

    def __init__(self, url: str, call_date: date) -> None:
        self._url = url
        self._call_date = call_date
        self._is_closing = threading.Event()
        self.n_reads = 0
        self.n_half = 0
        self.first_half: tuple[object, ...] | None = None
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> "ListReader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closing.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._is_closing.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True, connect_timeout=2) as connection:
                    while not self._is_closing.is_set():
                        self._judge(connection.execute(_QUERY, (self._call_date,)).fetchone())
                        time.sleep(0.003)
            except psycopg.OperationalError:
                time.sleep(0.02)  # the server is down, as the fault wants it

    def _judge(self, row: tuple[object, ...] | None) -> None:
        self.n_reads += 1
        if row is not None:
            n_rows, run_id, *found = row
            if found == [n_rows, 1, n_rows, n_rows, 1, run_id]:
                return
        self.n_half += 1
        self.first_half = self.first_half or row or ("no list",)
