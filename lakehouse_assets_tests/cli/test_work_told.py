"""Commands that only read and may take long say what they are at, apart from what they print."""

import json

import pytest
from click.testing import CliRunner

from lakehouse_assets.cli import progress
from lakehouse_assets.cli.main import main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("status", "--json"), "s, reading what there is"),
        (("why", "shop.monitors.nothing", "--json"), "s, reading what failed"),
        (("report", "-o", "shown.html"), "s, writing the report"),
    ],
)
def test_what_takes_long_says_what_it_is_at_and_prints_its_result_alone(settings, monkeypatch, tmp_path, words, told):
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(settings.root))
    monkeypatch.chdir(tmp_path)
    quiet = CliRunner().invoke(main, words)
    assert told not in quiet.stderr
    monkeypatch.setattr(progress, "HEARTBEAT", 0.001)
    shown = CliRunner().invoke(main, words)
    assert told in shown.stderr
    assert "s, " not in shown.stdout
    if shown.exit_code == 0 and words[-1] == "--json":
        json.loads(shown.stdout)
