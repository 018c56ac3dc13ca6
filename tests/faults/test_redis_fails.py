"""Redis is killed, paused or out of memory while the list is made: the list goes out, and readers read PostgreSQL."""

import threading
from collections.abc import Callable

import pytest

from bandicoot_core.stores.cache.cache import open_cache
from bandicoot_core.stores.cache.current_reader import CurrentReader
from tests.faults.conftest import N_TRIES, drawn_for_this_pass
from tests.faults.list_reader import ListReader
from tests.faults.site_under_fault import CALL_DATE, Site, Work
from tests.servers.redis import RedisServer, running_redis

FAULTS: dict[str, Callable[[RedisServer], None]] = {
    "Redis killed (-9)": RedisServer.kill,
    "Redis paused (SIGSTOP)": RedisServer.pause,
    "Redis out of memory": lambda server: server.configure(maxmemory="1mb", maxmemory_policy="noeviction"),
}


@pytest.mark.parametrize("fault", drawn_for_this_pass(list(FAULTS), 1))
def test_the_list_goes_out_whatever_redis_does(site: Site, reader: ListReader, fault: str) -> None:
    for moment in site.generator(fault).uniform(0, site.seconds[Work.LIST], size=N_TRIES):
        budget = site.prepare(Work.LIST)
        before = site.look()
        with running_redis() as server:
            settings = site.settings_with(redis_url=server.url, redis_fill_seconds=5.0)
            strike = threading.Timer(moment, FAULTS[fault], [server])
            strike.start()
            outcome = site.start(Work.LIST, budget, settings).finish()
            strike.join()
            print(f"{fault}, after {moment:.2f} s: {outcome.error_class}: {outcome.message}")
            assert outcome.is_success, outcome
            read = CurrentReader(open_cache(settings), site.installation.published).read_indices()
            assert read.call_date == CALL_DATE
        site.answer(fault, Work.LIST, before, outcome, wanted=budget, reader=reader)
