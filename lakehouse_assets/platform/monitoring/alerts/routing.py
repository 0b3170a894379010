"""Which sinks there are, by the settings, and which of them are told of whose alerts. How a sink delivers is in `sinks`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from logging import Logger
from typing import Final
from urllib.parse import urlsplit

from lakehouse_assets.platform.declarations.base import owners_of
from lakehouse_assets.platform.monitoring.alerts.sinks.http import Slack, Webhook
from lakehouse_assets.platform.monitoring.alerts.sinks.mail import Mail, MailServer, Security
from lakehouse_assets.platform.monitoring.alerts.sinks.sink import LogSink, Sink, Unusable
from lakehouse_assets.settings import SettingError, Settings, variable

LOG: Final = "log"
WEBHOOK, SLACK, MAIL = "webhook", "slack", "mail"
_SLACK_HOST: Final = "hooks.slack.com"
_SLACK_PREFIX: Final = "slack:"
_HOW: Final = (
    "write OWNER=ADDRESS with commas between, as in team:risk=risk@example.com,team:risk=slack:https://hooks.slack.com/services/T/B/X"
)


@dataclass(frozen=True)
class Route:
    """Where alerts of an owner go in place of the sink of the same kind that all others go to.

    Attributes:
        owner: A team or a person, as declarations name them.
        kind: webhook, slack or mail.
        address: Of the sink.
    """

    owner: str
    kind: str
    address: str


@dataclass(frozen=True)
class Sinks:
    """The sinks of a lakehouse.

    Attributes:
        common: By kind, the sink of all owners that no route names.
        own: By owner and kind, the sinks that routes name.
        problem: Why the routes are not followed; empty if they are.
    """

    common: Mapping[str, Sink]
    own: Mapping[tuple[str, str], Sink]
    problem: str = ""

    @cached_property
    def by_name(self) -> dict[str, Sink]:
        """All of them, by name."""
        return {sink.name: sink for sink in (*self.common.values(), *self.own.values())}

    def names_for(self, owner: str) -> list[str]:
        """The names of those who are told of the alerts of an owner; of several owners, those of each.

        Args:
            owner: As a declaration has it: teams and people with commas between.
        """
        kinds = dict.fromkeys([*self.common, *(kind for _, kind in self.own)])
        found: dict[str, None] = {}
        for one in owners_of(owner):
            for kind in kinds:
                sink = self.own.get((one, kind)) or self.common.get(kind)
                if sink is not None:
                    found[sink.name] = None
        return list(found)


def sinks_of(settings: Settings, logger: Logger) -> Sinks:
    """The sinks that the settings name, and the log.

    Args:
        settings: Of the lakehouse. What is wrong with them is a problem of the sinks, or a sink that cannot be reached until it is fixed.
        logger: Of the sink that is always there.
    """
    common: dict[str, Sink] = {LOG: LogSink(LOG, logger)}
    if settings.alert_webhook:
        common[WEBHOOK] = Webhook(WEBHOOK, settings.alert_webhook)
    if settings.alert_slack:
        common[SLACK] = Slack(SLACK, settings.alert_slack)
    if settings.alert_mail_to:
        common[MAIL] = _mail(MAIL, addresses(settings.alert_mail_to), settings)
    try:
        routes = routes_of(settings.alert_routes)
    except SettingError as error:
        return Sinks(common, {}, str(error))
    by_owner: dict[tuple[str, str], list[str]] = {}
    for route in routes:
        by_owner.setdefault((route.owner, route.kind), []).append(route.address)
    return Sinks(common, {of: _own(*of, tuple(dict.fromkeys(found)), settings) for of, found in by_owner.items()})


def _own(owner: str, kind: str, found: tuple[str, ...], settings: Settings) -> Sink:
    name = f"{kind} {owner}"
    if kind == MAIL:
        return _mail(name, found, settings)
    if len(found) > 1:
        return Unusable(name, f"{variable('alert_routes')} has {len(found)} addresses of this kind for {owner}: name one")
    return {WEBHOOK: Webhook, SLACK: Slack}[kind](name, found[0])


def _mail(name: str, to: tuple[str, ...], settings: Settings) -> Sink:
    if not settings.alert_mail_host:
        return Unusable(name, f"{variable('alert_mail_host')} is empty: name the SMTP server that takes the mails of alerts")
    security: Security = {"starttls": "starttls", "tls": "tls"}.get(settings.alert_mail_security, "none")  # type: ignore[assignment]
    sender = settings.alert_mail_from or next(iter(addresses(settings.alert_mail_to)), to[0])
    user, password = settings.alert_mail_user, settings.alert_mail_password
    return Mail(name, MailServer(settings.alert_mail_host, settings.alert_mail_port, security, user, password, sender), to)


def routes_of(text: str) -> list[Route]:
    """The routes of a setting.

    Raises:
        SettingError: One cannot be meant. Its text has no address in it.
    """
    found = []
    for number, part in enumerate(_parts(text), 1):
        owner, equals, address = (piece.strip() for piece in part.partition("="))
        is_owner = owner.startswith("team:") or "@" in owner
        kind = _kind_of(address)
        if not equals or not is_owner or kind is None:
            raise SettingError(f"{variable('alert_routes')}: number {number} is no route: {_HOW}")
        found.append(Route(owner, kind, address.removeprefix(_SLACK_PREFIX)))
    return found


def _kind_of(address: str) -> str | None:
    try:
        parts = urlsplit(address.removeprefix(_SLACK_PREFIX))
    except ValueError:
        return None
    if parts.scheme in {"http", "https"} and parts.netloc:
        return SLACK if address.startswith(_SLACK_PREFIX) or parts.hostname == _SLACK_HOST else WEBHOOK
    return MAIL if "@" in address and ":" not in address else None


def addresses(text: str) -> tuple[str, ...]:
    """The mail addresses of a setting, each once."""
    return tuple(dict.fromkeys(_parts(text)))


def _parts(text: str) -> Iterable[str]:
    return (part.strip() for part in text.split(",") if part.strip())
