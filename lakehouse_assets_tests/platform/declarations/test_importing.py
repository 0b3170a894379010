"""What the code of a product does while it is imported: it takes nothing else down, and what it declares is known."""

import importlib
import signal
import sys

import pytest

from lakehouse_assets.platform.declarations import importing
from lakehouse_assets.platform.declarations.loading import load_packages

FEED = 'from lakehouse_assets import Feed, feed\n{}feed("water.bronze.{}", Feed("{}", headers=(("meter",),)), "What meters counted.")\n'


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """A function that loads products from the texts of their modules."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(**products: str):
        folder = tmp_path / "odd_products"
        folder.mkdir()
        for name, text in {"__init__": "", **products}.items():
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        return load_packages([importlib.import_module("odd_products")], lambda product: product)

    yield load
    for name in [name for name in sys.modules if name.partition(".")[0] == "odd_products"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("class Stop(BaseException):\n    pass\n\n\nraise Stop('no more')\n", "broken.py:5: Stop: no more"),
        ("raise KeyboardInterrupt\n", "broken.py:1: KeyboardInterrupt"),
        ("def fails():\n    raise KeyboardInterrupt('x')\n\n\nfails()\n", "broken.py:2: KeyboardInterrupt: x"),
        ("raise GeneratorExit\n", "broken.py:1: GeneratorExit"),
        ("import sys\nsys.stdout = sys.stderr = None\nraise SystemExit(0)\n", "broken.py:3: SystemExit: 0"),
    ],
)
def test_whatever_a_product_raises_it_is_named_and_the_others_are_loaded(loaded, text, reason):
    streams = sys.stdout, sys.stderr

    found = loaded(broken=text, water=FEED.format("meters = ", "meters", "meters"))

    assert [one.name for one in found.broken] == ["broken"]
    assert reason in found.broken[0].text
    assert [one.name for one in found.catalog.declarations] == ["water.bronze.meters"]
    assert (sys.stdout, sys.stderr) == streams


def test_streams_that_a_product_replaces_are_restored(loaded):
    streams = sys.stdout, sys.stderr

    assert not loaded(quiet="import sys\nsys.stdout = None\nsys.stderr = None\n").broken

    assert (sys.stdout, sys.stderr) == streams


@pytest.mark.parametrize("handler", [signal.default_int_handler, None])
def test_an_interrupt_by_the_person_stays_one(loaded, handler):
    """Also while the product's own code runs."""

    def raises(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler or raises)
    try:
        with pytest.raises(KeyboardInterrupt):
            loaded(busy="import signal\nsignal.raise_signal(signal.SIGINT)\nfor number in range(1000):\n    pass\n")
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_product_that_takes_long_is_named_once(loaded, monkeypatch, capsys):
    monkeypatch.setattr(importing, "_LONG", 0.01)

    loaded(slow="import threading\nfor timer in threading.enumerate():\n    if isinstance(timer, threading.Timer):\n        timer.join()\n")

    assert capsys.readouterr().err == "loading product slow …\n"
