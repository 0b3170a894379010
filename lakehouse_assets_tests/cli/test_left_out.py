"""A run says which files it left out, because a file with the same content was read."""

import json

import pytest
from click.testing import CliRunner

from lakehouse_assets import Feed, feed, open_lakehouse
from lakehouse_assets.cli.main import main
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text

parcels = feed("depot.bronze.parcels", Feed("parcels", headers=(("parcel", "town"),)), "Parcels as the warehouse wrote them.")


@pytest.fixture
def call(tmp_path, monkeypatch):
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")})
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setattr("lakehouse_assets.client.open_lakehouse", lambda: open_lakehouse(settings=settings, declarations=(parcels,)))

    def call(*words: str) -> str:
        result = CliRunner(env={"LAKEHOUSE_ROOT": str(tmp_path / "root")}).invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    for name in ("first.csv", "second.csv"):
        land_text(settings, "parcels", name, "parcel,town\n1,Ghent\n")
    return call


def test_a_file_with_the_content_of_another(call):
    said = call("run")
    assert "left out parcels/second.csv: the same content as first.csv, which is read already; if it is a delivery of its own" in said
    assert "left out" not in call("run")


def test_a_file_with_the_content_of_another_as_json(call):
    (left_out,) = json.loads(call("run", "--json"))["duplicates"]
    assert (left_out["feed"], left_out["path"]) == ("parcels", "second.csv")
    assert json.loads(call("run", "--json"))["duplicates"] == []
