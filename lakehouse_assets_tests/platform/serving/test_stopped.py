"""A service that has stopped holds nothing open."""

from contextlib import closing

import redis

from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.features.online.conftest import RedisServer
from lakehouse_assets_tests.platform.serving import till
from lakehouse_assets_tests.platform.serving.asking import Connection
from lakehouse_assets_tests.platform.serving.busy import is_ready, prepared, service_of


def test_no_connection_to_the_online_store_is_left(settings, tmp_path):
    server = RedisServer(tmp_path)
    try:
        root = Root(Settings.load({"LAKEHOUSE_ROOT": str(settings.root), "LAKEHOUSE_ONLINE_STORE": server.address}))
        prepared(root, 10)
        service = service_of(root)
        with closing(redis.Redis.from_url(server.address)) as client:
            with till.listening(service) as address, Connection(address) as connection:
                till.until(lambda: is_ready(service))
                asked = {"feature_sets": [till.of_shops.name], "keys": [{"shop": "a"}]}
                assert connection.post("/features", asked)[0] == 200
                assert connection.get(f"/features/{till.of_shops.name}?key=a")[0] == 200
                assert len(client.client_list()) > 1
            till.until(lambda: len(client.client_list()) == 1)  # the server hears of it a moment later
    finally:
        server.stop()
