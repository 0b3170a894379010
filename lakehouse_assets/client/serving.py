"""What the client does to serve endpoints: it puts a service together and listens. What a service answers is in `platform.serving`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lakehouse_assets.client.context import Context

if TYPE_CHECKING:
    from lakehouse_assets.platform.serving.service import Service


def service(context: Context, host: str) -> "Service":
    """The service of all endpoints that the products declare, not started yet.

    Args:
        context: Of the root.
        host: Where it is to listen: on another address than loopback, requests need a token.

    Raises:
        NoEndpoint: No product declares an endpoint.
    """
    from lakehouse_assets.platform.serving.limits import Limits
    from lakehouse_assets.platform.serving.online import StoreOnline
    from lakehouse_assets.platform.serving.service import Service
    from lakehouse_assets.platform.serving.tokens import tokens_needed

    settings, catalog = context.settings, context.loaded.catalog
    limits = Limits(
        queue_rows=settings.serve_queue_rows,
        request_rows=settings.serve_request_rows,
        body_bytes=settings.serve_body_bytes,
        seconds=settings.serve_milliseconds / 1000,
    )
    online = StoreOnline(context.root, {one.name: one for one in catalog.declarations})
    needed, hosts = tokens_needed(host, settings.serve_tokens), settings.serve_hosts.split(",")
    return Service(context.root, catalog, context.reader, online, limits, needed, hosts)


def serve(context: Context, say: Callable[[str], None], host: str | None, port: int | None) -> None:
    """Answer requests until the process is told to end.

    Raises:
        NoEndpoint: No product declares an endpoint.
        PortTaken: Another process listens on the port.
    """
    from lakehouse_assets.platform.orchestration.ports import check_free
    from lakehouse_assets.platform.serving.server import run

    at, number = host or context.settings.host, port or context.settings.serve_port
    made = service(context, at)
    check_free(at, number, "--port")

    def listening(address: str) -> None:
        for name, served in made.served.items():
            say(f"POST {address}/endpoints/{name}: {served.endpoint.description}")
        say(f"Try it at {address}/; what can answer stands at {address}/ready. Press Ctrl-C to stop.")

    run(made.application(), at, number, listening)
