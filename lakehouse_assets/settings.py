"""Every setting of the platform, once: its `LAKEHOUSE_*` variable, its default and what it does.

Settings say where and how the platform runs. What a table means (rules, keys, thresholds) stands in its contract, never here.
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

PREFIX = "LAKEHOUSE_"


class SettingError(ValueError):
    """A variable that is no setting, or a value that does not fit."""


def _setting(default: Any, doc: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"doc": doc, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """The settings of one process; the fields are the variables' names in lower case, without the prefix."""

    root: Path = _setting(Path("data"), "Folder that holds everything a run writes: landing/, tables/, mlflow/, dagster/.")
    mlflow_uri: str = _setting("", "MLflow's tracking database or server; empty: an SQLite database under the root.")
    host: str = _setting("127.0.0.1", "Address on which `lakehouse dev` serves the web UI and the MLflow UI.")
    web_port: int = _setting(3000, "Port of the Dagster web UI.")
    mlflow_port: int = _setting(5000, "Port of the MLflow UI.")
    executor: str = _setting("in_process", "How a run's steps are executed.", ("in_process", "multiprocess"))
    timezone: str = _setting("UTC", "Time zone of the schedules.")
    refresh_schedule: str = _setting("0 6 * * *", "Cron line of the daily refresh: new files to predictions.")
    train_schedule: str = _setting("0 7 * * 1", "Cron line of the weekly training.")
    sensor_seconds: int = _setting(30, "Seconds between two looks at the landing zone.")
    batch_megabytes: int = _setting(512, "Most megabytes of files that go into one commit of a bronze table.")
    seed: int = _setting(20, "Seed of every training.")

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

    @property
    def landing(self) -> Path:
        """Where source systems drop files: one folder a feed."""
        return self.root / "landing"

    @property
    def tables(self) -> Path:
        """Where the Delta tables lie."""
        return self.root / "tables"

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps its runs and events."""
        return self.root / "dagster"

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI."""
        return self.mlflow_uri or f"sqlite:///{(self.root / 'mlflow' / 'mlflow.db').absolute()}"

    @property
    def artifacts(self) -> Path:
        """Where MLflow puts models and plots."""
        return (self.root / "mlflow" / "artifacts").absolute()

    @property
    def reports(self) -> Path:
        """Where pictures for people are put."""
        return self.root / "reports"


def variable(name: str) -> str:
    """The variable of a setting."""
    return PREFIX + name.upper()


def _parse(name: str, value: str, setting: Any) -> Any:
    if setting.type is Path:
        if not value or "://" in value:
            raise SettingError(f"{name}={value!r}: name a folder of this machine")
        return Path(value)
    if setting.type is int:
        try:
            return int(value)
        except ValueError:
            raise SettingError(f"{name}={value!r} is not a whole number") from None
    choices = setting.metadata["choices"]
    if choices and value not in choices:
        raise SettingError(f"{name}={value!r}: choose one of {', '.join(choices)}")
    return value
