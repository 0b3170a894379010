"""The pages as a person meets them: in a browser, on a trained root and on an empty one, without a request to another machine."""

import http.client
import json
import shutil
import urllib.request
from urllib.parse import urlsplit

import pytest

from lakehouse_assets.platform.quality.masking import MASK
from lakehouse_assets.views.listed import PAGES
from lakehouse_assets_tests.browser import CHROMIUM, browser
from lakehouse_assets_tests.views.prepared import HOSTILE, SECRET, pages_of, refreshed

if shutil.which(CHROMIUM) is None:
    pytest.skip("there is no Chromium: Debian's package is called chromium", allow_module_level=True)
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def address(root):
    with pages_of(root.root, root.products) as served:
        yield served


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """The pages of a root in which nothing has landed."""
    with pages_of(tmp_path_factory.mktemp("empty") / "root") as served:
        yield served


@pytest.fixture(scope="module")
def tab():
    with browser() as opened:
        yield opened


@pytest.fixture
def page(tab):
    """Opens a page; at the end, all that it asked for was of this machine, and its console said no error."""

    def opened(address: str, *parts: str) -> str:
        tab.open(address)
        return tab.shows(*parts)

    yield opened
    elsewhere = [one for one in tab.requests if urlsplit(one).hostname not in {"127.0.0.1", None}]
    assert not elsewhere
    assert not tab.errors


def test_the_overview_says_what_is_expected_what_is_wrong_and_what_was_done(address, tab, page):
    text = page(f"{address}/", "What is expected", "What is wrong", "What was done last", "Dagster")
    assert "Forecast of takings" in text
    assert "Open alerts" in text
    assert "lakehouse alerts show a1" in text
    assert "amount has drifted" in text  # the open alert
    assert "alert resolved" in text  # the other one
    assert "by the gate" in text
    links = set(tab.ask("[...document.querySelectorAll('nav a')].map(a=>new URL(a.href).pathname)"))
    assert links == {f"/{name}/" for name in PAGES}


def test_a_forecast_is_shown_by_group(address, tab, page):
    text = page(f"{address}/forecasts/", "Forecast for the 7 days after", "By week", "shop.models.takings")
    assert "Sum of the orders in pounds" in text
    assert "all together" in text
    tab.until(lambda _: tab.count("canvas, svg.marks") > 0, "a chart")
    tab.choose("Group", "GB")
    text = tab.shows("takings by day (shop.models.takings): GB", "80% of the days")
    assert "cannot be added up" not in text
    tab.choose("Group", HOSTILE)
    tab.shows(f"takings by day (shop.models.takings): {HOSTILE}")


def test_a_review_queue_is_filtered_by_decision(address, tab, page):
    text = page(f"{address}/review/", "shop.models.fraud", "How likely the chosen rows are", "no charged back")
    assert "newest first" in text
    assert "outcome is known already" in text
    tab.choose("Decision", "all")
    tab.shows("newest first")
    tab.choose("Decision", "no charged back")
    tab.shows("newest first")
    tab.choose("Order", "likeliest first")
    tab.shows("likeliest first", "shop.models.fraud")


def test_table_health_shows_the_quarantine_and_the_account_of_a_table(address, tab, page):
    page(f"{address}/health/", "Rows in quarantine", "shop.silver.orders")
    tab.shows("What became of the rows of the last")
    tab.choose("Table", "shop.silver.orders")
    text = tab.shows("1 row waits", "lakehouse quarantine replay shop.silver.orders")
    assert "rows that broke it" in text
    tab.until(lambda _: tab.count("canvas, svg.marks") > 0, "a chart")


def test_drift_is_shown_by_column(address, tab, page):
    text = page(f"{address}/drift/", "Columns that drifted", "amount", "shop.silver.orders")
    assert "How far each column is from the baseline, in thresholds" in text
    assert "Dashed: the threshold" in text
    for part in ("one window in 500", "country=GB", "area under the ROC curve", "the baseline"):
        assert part in text, part  # the windows that passed, each with its false-alarm rate
    tab.until(lambda _: tab.count("canvas, svg.marks") > 0, "a chart")
    tab.choose("Metric", "Jensen-Shannon distance")
    tab.shows("Jensen-Shannon distance against the baseline", "Dashed: the threshold")
    tab.choose("Metric", "population stability index")
    assert "Dashed: the threshold" not in tab.shows("Population stability index against the baseline (it has no threshold)")


def test_models_show_ledger_slices_and_card(address, tab, page):
    text = page(f"{address}/models/", "Champions", "Ledger: who decided what", "Model card of version", "of the champion", "live accuracy")
    assert "shop.models.takings" in text
    assert HOSTILE in text  # a slice
    tab.choose("Model", "shop.models.takings")
    tab.shows("takings for each country on each of the next 7 days")


def test_the_catalogue_is_searched(address, tab, page):
    text = page(f"{address}/catalogue/", "Feature sets", "shop.bronze.orders", "team:shop", "The platform's own tables")
    assert "with personal data" in text
    tab.type("Search", "takings")
    tab.lacks("Orders as the shop exports them.")
    tab.shows("shop.gold.days", "Sum of the orders in pounds.")
    tab.type("Search", "no such word")
    tab.shows("Nothing has 'no' and 'such' and 'word' in it.")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("overview", "lakehouse demo"),
        ("forecasts", "has nothing to learn from yet"),
        ("review", "has nothing to score yet"),
        ("health", "There are no tables yet"),
        ("drift", "No drift was measured yet"),
        ("models", "Never trained"),
        ("catalogue", "Invoice lines as the till writes them"),
    ],
)
def test_an_empty_lakehouse_says_what_to_do(empty, page, name, said):
    page(f"{empty}/{name}/", PAGES[name], said)


@pytest.fixture(scope="module")
def without_monitors(tmp_path_factory):
    """The settings of a root in which no drift was measured."""
    return refreshed(tmp_path_factory.mktemp("without_monitors"))


@pytest.mark.parametrize("shown", ["never", "owner"])
def test_personal_data_is_masked_and_reads_are_written_down(without_monitors, tab, page, shown):
    """Whoever owns the root may see it unmasked, and then it is seen: so these are pages that would show it."""
    settings = without_monitors
    with pages_of(settings.root, settings.products, LAKEHOUSE_SHOW_PERSONAL=shown) as served:
        page(f"{served}/drift/", "No drift was measured yet")
        tab.until(lambda _: tab.count("option") > 1, "the tables")
        tab.choose("Table", "shop.silver.orders")
        profile = tab.shows("What shop.silver.orders holds now")
        # The classifier learns from the column: what it was copied to is masked as well.
        tab.choose("Table", "shop.features.fraud")
        of_features = tab.shows("What shop.features.fraud holds now")
        others = [page(f"{served}/{name}/", PAGES[name]) for name in PAGES if name != "drift"]
    for text in (profile, of_features):
        assert (SECRET in text, MASK in text) == ((True, False) if shown == "owner" else (False, True))
    assert SECRET not in "".join(others)
    reads = [json.loads(line) for file in (settings.home_folder / "audit").glob("*.jsonl") for line in file.read_text().splitlines()]
    of_profile = [read for read in reads if read["what"] == "page: drift" and "shop.silver.orders" in read["tables"][0]]
    assert of_profile[-1]["unmasked" if shown == "owner" else "masked"] == ["method"]


def test_no_page_of_a_trained_root_shows_a_personal_value(address, page):
    assert SECRET not in "".join(page(f"{address}/{name}/", PAGES[name]) for name in PAGES)


def test_pages_of_other_sites_are_refused(address):
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        connection.request("GET", "/overview/", headers=headers)
        answer = connection.getresponse()
        assert (answer.status, b"LAKEHOUSE_PAGES_HOSTS" in answer.read()) == (403, True)
        connection.close()
    with urllib.request.urlopen(f"{address}/livez", timeout=60) as answer:
        assert answer.read() == b"ok"
    for name in PAGES:
        with urllib.request.urlopen(f"{address}/{name}", timeout=60) as answer:
            assert urlsplit(answer.url).path == f"/{name}/"
