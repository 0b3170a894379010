"""Every setting of the platform, once: its `LAKEHOUSE_*` variable, its default and what it does.

Settings say where and how the platform runs. What a table means (rules, keys, thresholds) is in its contract, never here.
"""

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

PREFIX = "LAKEHOUSE_"
# Of the buckets that delta-rs and Polars know, by what the root's address starts with.
BUCKET_SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
# The package of the products that come with the platform.
BUILT_IN_PRODUCTS = "lakehouse_assets.products"
# As `dagster.yaml` has it.
RUNS_AT_ONCE = 4
# Of one run, where each has a process of its own.
STEPS_AT_ONCE = 4
# In place of what may be a secret.
HIDDEN = "•••"

Location = Path | str
"""A folder of this machine, or the address of a bucket and a prefix in it."""


class SettingError(ValueError):
    """A variable that is no setting, or a value that does not fit."""


def _without_password(address: str) -> str:
    """An address without what stands before its host, and without its query."""
    parts = urlsplit(address)
    _, at, host = parts.netloc.rpartition("@")
    if not at and not parts.query:
        return address
    return urlunsplit(parts._replace(netloc=(HIDDEN + at if at else "") + host, query=HIDDEN if parts.query else ""))


def host_alone(address: str) -> str:
    """An address without its path: chat tools have their token in it."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return HIDDEN
    return f"{parts.scheme}://{parts.hostname or ''}/{HIDDEN}" if address else ""


def _hidden(secret: str) -> str:
    return HIDDEN if secret else ""


def _owners_and_hosts(routes: str) -> str:
    """Routes of alerts without the paths of addresses."""
    parts = [route.partition("=") for route in routes.split(",") if route.strip()]
    shown = (f"{owner}={host_alone(to.removeprefix('slack:')) if '://' in to else to}" if is_one else HIDDEN for owner, is_one, to in parts)
    return ",".join(shown)


def _setting(default: Any, doc: str, choices: tuple[str, ...] = (), shown: Callable[[str], str] = str) -> Any:
    return field(default=default, repr=shown is str, metadata={"doc": doc, "choices": choices, "shown": shown})


@dataclass(frozen=True)
class Settings:
    """The settings of one process; the fields are the variables' names in lower case, without the prefix."""

    root: Location = _setting(Path("data"), "Folder or bucket (s3://, gs://, az://, abfss://) that holds landing/, tables/ and mlflow/.")
    home: str = _setting(
        "",
        "Folder of this machine for what no bucket can hold: Dagster's runs, MLflow's database, pictures; empty: the root, or for a bucket "
        "a folder of its name under data/.",
    )
    products: str = _setting(
        BUILT_IN_PRODUCTS,
        "Packages whose sub-packages are products, with commas between them: importable names or folders, as ./my_products. Replaces the "
        "default, which is the package of the demo products: add its name to keep them.",
    )
    mlflow_uri: str = _setting(
        "", "MLflow's tracking database or server; empty: an SQLite database under the root.", shown=_without_password
    )
    online_store: str = _setting(
        "",
        "Address of the Redis server that keeps the newest features for requests, as redis://host:6379/0; empty: a file under the home.",
        shown=_without_password,
    )
    online_hours: int = _setting(
        24, "Hours before the newest row of an entity for which the online store still answers: requests may be so late."
    )
    host: str = _setting(
        "127.0.0.1", "Address on which `lakehouse dev` serves the web UI and the MLflow UI, and `lakehouse serve` answers."
    )
    web_port: int = _setting(3000, "Port of the Dagster web UI.")
    mlflow_port: int = _setting(5000, "Port of the MLflow UI.")
    executor: str = _setting("in_process", "How a run's steps are executed.", ("in_process", "multiprocess"))
    compute: str = _setting(
        "local",
        "Where trainings work: local (one fold or segment after the other in the process of the run), or processes (several at once, each "
        "in a process of its own: for forecasts and other models that keep no more than one core busy).",
        ("local", "processes"),
    )
    compute_workers: int = _setting(
        0,
        "Most processes at once of a training with LAKEHOUSE_COMPUTE=processes, each with rows of its own in memory; 0: one for each core.",
    )
    timezone: str = _setting("UTC", "Time zone of the schedules.")
    refresh_schedule: str = _setting("0 6 * * *", "Cron line of the daily refresh: new files to predictions.")
    train_schedule: str = _setting("0 7 * * 1", "Cron line of the weekly training.")
    maintenance_schedule: str = _setting(
        "30 3 * * *", "Cron line of the nightly maintenance: compaction, checkpoints, vacuum, clean-up of logs."
    )
    retention_days: int = _setting(7, "Days for which a version of a table stays readable after it was replaced.")
    log_retention_days: int = _setting(
        30,
        "Days for which a commit stays in its table's log, at least as long as versions stay readable; statistics of it stay.",
    )
    run_retention_days: int = _setting(
        30, "Days for which a run that has ended stays in Dagster's databases, with its events and logs; the system tables keep it longer."
    )
    system_retention_days: int = _setting(
        400,
        "Days for which runs, steps, checks, verdicts, profiles, drift, accuracy, cached baselines and past alerts stay; "
        "maintenance deletes older ones.",
    )
    sensor_seconds: int = _setting(30, "Seconds between two ticks of the sensor on landed files, and of that of alerts.")
    alert_webhook: str = _setting("", "Address to which alerts are posted as JSON; empty: they are not.", shown=host_alone)
    alert_slack: str = _setting(
        "", "Address of an incoming webhook of Slack, or of a tool that takes its format, for alerts; empty: none.", shown=host_alone
    )
    alert_mail_to: str = _setting("", "Mail addresses that alerts are sent to, with commas between them; empty: none.")
    alert_mail_from: str = _setting("", "Mail address that alerts come from; empty: the first of those that they are sent to.")
    alert_mail_host: str = _setting("", "SMTP server that takes the mails of alerts.")
    alert_mail_port: int = _setting(587, "Port of the SMTP server.")
    alert_mail_security: str = _setting(
        "starttls",
        "How the connection to the SMTP server is encrypted: starttls (port 587), tls (from the first byte, port 465), or none.",
        ("starttls", "tls", "none"),
    )
    alert_mail_user: str = _setting("", "User who logs in to the SMTP server; empty: nobody does.")
    alert_mail_password: str = _setting("", "Password of that user.", shown=_hidden)
    alert_routes: str = _setting(
        "",
        "Where alerts of an owner go in place of the address of the same kind that all others go to: OWNER=ADDRESS with commas between, "
        "as team:risk=risk@example.com,team:risk=slack:https://hooks.slack.com/services/T/B/X (a plain https:// address is a webhook).",
        shown=_owners_and_hosts,
    )
    batch_megabytes: int = _setting(128, "Most megabytes of text, unpacked, that go into one commit of a bronze table.")
    batch_files: int = _setting(1_000, "Most files that go into one commit of a bronze table.")
    memory_megabytes: int = _setting(
        0,
        "Megabytes that the queries of all processes together may use before they spill to disk: each of the processes that may work at "
        "once gets an equal share; 0: half of the machine's memory.",
    )
    serve_port: int = _setting(8000, "Port of the REST service, `lakehouse serve`; it listens on LAKEHOUSE_HOST.")
    serve_milliseconds: int = _setting(2_000, "Milliseconds after which a request to the REST service is given up with 504.")
    serve_queue_rows: int = _setting(2_000, "Most rows that wait to be scored by the REST service; more are refused with 429.")
    serve_request_rows: int = _setting(1_000, "Most rows of a request to the REST service.")
    serve_body_bytes: int = _setting(4_000_000, "Most bytes of a request to the REST service.")
    serve_tokens: str = _setting(
        "auto",
        "Whether requests to the REST service need a token: always, or auto (unless it listens on loopback; on any other address they do).",
        ("auto", "always"),
    )
    serve_hosts: str = _setting(
        "",
        "Names under which the REST service answers where it needs no token, besides localhost, with commas between them: what browsers "
        "send as Host and Origin, as notebook.example.org behind a proxy.",
    )
    pages_port: int = _setting(8080, "Port of the pages for people, `lakehouse pages`; they listen on LAKEHOUSE_HOST.")
    pages_hosts: str = _setting(
        "",
        "Names under which the pages are shown without a token, besides localhost, with commas between: those of a proxy that says who "
        "may come in.",
    )
    seed: int = _setting(20, "Seed of every training.")
    show_personal: str = _setting(
        "never",
        "Whether personal data is shown: never (masked for everybody), or owner (unmasked for the user who owns the root's folder; a line "
        "on stderr says so).",
        ("never", "owner"),
    )

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """The settings of an environment (default: this process's).

        Raises:
            SettingError: A variable with the prefix is not a setting, or its value does not fit.
        """
        environment = os.environ if environment is None else environment
        given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
        known = {variable(f.name): f for f in fields(cls)}
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise SettingError(f"{name} is not a setting{f': did you mean {near[0]}?' if near else ''} `lakehouse settings` lists all")
        return cls(**{known[name].name: _parse(name, value, known[name]) for name, value in given.items()})

    def shown(self, name: str) -> str:
        """The value of a setting for people to read, without what may be a secret in it."""
        own = next(field for field in fields(self) if field.name == name)
        return str(own.metadata["shown"](str(getattr(self, name))))

    @property
    def processes_at_once(self) -> int:
        """How many processes may run queries at the same time: runs, and their steps where each step has a process of its own."""
        return RUNS_AT_ONCE * (STEPS_AT_ONCE if self.executor == "multiprocess" else 1)

    @property
    def home_folder(self) -> Path:
        """The folder of this machine for what no bucket can hold."""
        if self.home:
            return Path(self.home)
        return self.root if isinstance(self.root, Path) else Path("data", *self.root.split("://", 1)[1].split("/"))

    @property
    def landing(self) -> Location:
        """Where source systems drop files: one folder a feed."""
        return self._under_root("landing")

    @property
    def archive(self) -> Location:
        """Where files are moved that were read, in feeds that ask for it: one folder a feed."""
        return self._under_root("archive")

    @property
    def tables(self) -> Location:
        """Where the Delta tables lie."""
        return self._under_root("tables")

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps its runs and events."""
        return self.home_folder / "dagster"

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI."""
        return self.mlflow_uri or f"sqlite:///{(self.home_folder / 'mlflow' / 'mlflow.db').absolute()}"

    @property
    def artifacts(self) -> Location:
        """Where MLflow puts models and plots."""
        artifacts = self._under_root("mlflow/artifacts")
        # Without links, so that a root that is reached by two names has one address: MLflow stores it.
        return artifacts.resolve() if isinstance(artifacts, Path) else artifacts

    @property
    def reports(self) -> Path:
        """Where pictures for people are put."""
        return self.home_folder / "reports"

    @property
    def audit(self) -> Path:
        """Where reads are written down."""
        return self.home_folder / "audit"

    @property
    def cache(self) -> Path:
        """Where what can be computed again is kept."""
        return self.home_folder / "cache"

    def _under_root(self, name: str) -> Location:
        return self.root / name if isinstance(self.root, Path) else f"{self.root}/{name}"


def variable(name: str) -> str:
    """The variable of a setting."""
    return PREFIX + name.upper()


def _parse(name: str, value: str, setting: Any) -> Any:
    if setting.name == "root":
        return parse_location(name, value)
    if setting.name == "home" and "://" in value:
        raise SettingError(f"{name}: name a folder of this machine")
    if setting.type is int:
        try:
            return int(value)
        except ValueError:
            raise SettingError(f"{name}={value!r} is not a whole number") from None
    choices = setting.metadata["choices"]
    if choices and value not in choices:
        raise SettingError(f"{name}={value!r}: choose one of {', '.join(choices)}")
    return value


def parse_location(name: str, value: str) -> Location:
    """A folder or a bucket from its text; `name` is the variable, for messages.

    Raises:
        SettingError: It is neither.
    """
    scheme, separator, place = value.partition("://")
    if not separator:
        if not value:
            raise SettingError(f"{name} is empty: name a folder or a bucket")
        return Path(value)
    known = ", ".join(f"{known}://" for known in BUCKET_SCHEMES)
    if scheme not in BUCKET_SCHEMES:
        raise SettingError(f"{name} starts with {scheme}://: name a folder of this machine, or a bucket by {known}")
    bucket, *prefix = place.rstrip("/").split("/")
    # The address is not repeated: what stands where a password may stand could be one.
    if "?" in place or "#" in place or ":" in place or ("@" in bucket and not scheme.startswith("abfs")):
        raise SettingError(f"{name} holds more than a bucket and a prefix: keys and endpoints stand in variables like AWS_ACCESS_KEY_ID")
    if not bucket or not all(prefix) or not {".", ".."}.isdisjoint(prefix):
        raise SettingError(f"{name}={value!r}: name a bucket and a prefix, as in {scheme}://bucket/prefix")
    return f"{scheme}://{'/'.join([bucket, *prefix])}"
