"""A process that forks a child for each line on its input; every child publishes lists without end until it is killed.

Forking from a process that has imported everything makes a child in milliseconds instead of half a second. A child
says its process id once it has published its first list.
"""

import os
import sys

from published_rows import list_rows, publish

from bandicoot_core.stores.postgres.connections import connect


def publish_forever(url: str) -> None:
    with connect(url) as connection:
        turn = 0
        while True:
            n_rows = 500 + 37 * (turn % 20)
            rows = list_rows([f"CG-{turn % 7}-{number}" for number in range(n_rows)])
            publish(connection, rows, run_id=f"run-{os.getpid()}-{turn}-{n_rows}")
            if not turn:
                print(os.getpid(), flush=True)
            turn += 1


if __name__ == "__main__":
    list_rows(["CG-1"])  # the first table that Arrow makes of Python lists loads pandas
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            publish_forever(sys.argv[1])
        os.waitpid(child, 0)
        print("ended", flush=True)
