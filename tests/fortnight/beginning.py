"""How the fortnight begins: a programme with its history in the lake, a champion, and the list of the first day.

In a process of its own, which lives in the test's time: what Dagster keeps of it has to lie before what comes.

python -m tests.fortnight.beginning N_CAREGIVERS SEED
"""

import sys

from bandicoot_core.calendar import day_of
from bandicoot_core.settings import load_list_options, load_model_options, load_settings
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.catch_up import catch_up
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.demo_source import fill_demo


def main() -> None:
    """Fill and catch up, by the environment's settings."""
    n_caregivers, seed = map(int, sys.argv[1:])
    installation = Installation(load_settings())
    installation.prepare()
    today = day_of(system_clock())
    fill_demo(installation, n_caregivers=n_caregivers, seed=seed, day=today, on_progress=lambda *_: None)
    catch_up(
        installation,
        today,
        list_options=load_list_options(),
        model_options=load_model_options(),
        say=lambda line: print(line, flush=True),
    )


if __name__ == "__main__":
    main()
