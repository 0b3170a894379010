"""What the client does to serve endpoints: it puts a service together and listens. What a service answers is in `platform.serving`."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lakehouse_assets.client.context import Context

_LOOK_SECONDS = 0.1

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.catalog import Catalog
    from lakehouse_assets.platform.serving.served import Served
    from lakehouse_assets.platform.serving.service import Service
    from lakehouse_assets.settings import Settings


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
    needed, hosts = tokens_needed(host, settings.serve_tokens), settings.serve_hosts.split(",")
    # Declarations that were handed in are known to this process alone.
    elsewhere = declared if context.given is None else None
    return Service(context.root, catalog, context.reader, StoreOnline(settings), limits, needed, hosts, declared=elsewhere)


def declared(settings: "Settings") -> "Catalog":
    """What the products declare, in another process of the service. That a product is broken was told by the first one."""
    return Context(settings, notice=lambda _: None).loaded.catalog


def tell_doors(made: "Service", address: str, say: Callable[[str], None]) -> None:
    """Say what can be asked where, and of feeds to which rows cannot be pushed why not.

    Args:
        made: The service.
        address: Where it listens.
        say: Told, in lines.
    """
    for name, served in made.served.items():
        say(f"POST {address}/endpoints/{name}: {served.endpoint.description}")
    for why in made.pushing.closed:
        say(f"No POST to {address}/ingest: {why}.")


def _tell_loaded(served: "Iterable[Served]", say: Callable[[str], None]) -> None:
    """Say of each endpoint, as soon as it is known, which version answers, or why none does and what to do."""
    from lakehouse_assets.platform.serving.served import NOT_LOADED

    waiting = list(served)
    while waiting:
        for one in tuple(waiting):
            versions, why = one.versions, one.why.get("champion", "")
            if versions is not None:
                say(f"{one.name}: version {versions.champion.champion.version} of {one.endpoint.model.name} answers.")
            elif why not in {"", NOT_LOADED}:
                say(f"{one.name} does not answer yet: {why}. It does within seconds once that is done.")
            else:
                continue
            waiting.remove(one)
        time.sleep(_LOOK_SECONDS)


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
        tell_doors(made, address, say)
        say(f"Try it at {address}/; what can answer stands at {address}/ready. Press Ctrl-C to stop.")
        say("Loading the champions; an endpoint answers 503 until its own is there.")
        threading.Thread(target=_tell_loaded, args=(made.served.values(), say), name="progress", daemon=True).start()

    run(made.application(), at, number, listening)
