"""What can be meant by an endpoint, where its features come from, and what is refused when it is declared, by name and with the remedy."""

from datetime import timedelta

import pytest

from lakehouse_assets import endpoint, predictions
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.products.revenue_forecast.forecast import revenue
from lakehouse_assets_tests.platform.serving import till

EXTERNAL = frozenset({"till.silver.receipts", "till.gold.paid"})


def declared(**options):
    return endpoint("receipts", **({"predictions": till.scored, "event": "till.gold.receipts"} | options))


def test_an_endpoint_names_its_log_its_sources_and_its_owner():
    found = declared()
    assert (found.name, found.word, found.owner) == ("till.inference.receipts", "receipts", "team:till")
    assert found.outputs() == ("till.inference.receipts",)
    assert {"till.features.receipts", "till.models.returned", "till.gold.receipts"} <= {*found.sources()}
    assert not found.by_keys
    assert found.is_log


def test_features_are_computed_from_the_event_or_looked_up():
    roles = declared().roles({one.name: one for one in till.DECLARED})
    assert [one.name for one in roles.computed] == ["till.features.receipts"]
    assert [one.name for one in roles.looked_up] == ["till.features.shops"]
    assert list(roles.columns_of(till.of_shops)) == ["shop_returns"]
    assert list(roles.identity) == ["receipt", "at"]


def test_the_event_is_by_default_the_only_input_of_the_driving_feature_set():
    assert declared(event="").roles({one.name: one for one in till.DECLARED}).event is till.receipts


def test_a_forecast_is_asked_by_keys():
    found = endpoint("revenue", predictions=revenue.predictions)
    assert found.by_keys
    assert found.roles({one.name: one for one in revenue.declarations}).event is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictions": till.of_receipts}, "predictions=FeatureSet till.features.receipts is no prediction table"),
        ({"missing": "refused"}, "missing='refused': write one of default, refuse. Did you mean refuse?"),
        ({"stale_after": timedelta(0)}, "stale_after=datetime.timedelta"),
        ({"log_retention": timedelta(hours=5)}, "log_retention=datetime.timedelta"),
        ({"challenger": 1.0}, "challenger=1.0 is a share from 0 to below 1"),
        ({"challenger": 0.1, "shadow": True}, "leave one of them out"),
        ({"predictions": revenue.predictions}, "so it is asked by keys and no event is sent"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(DeclarationError, match=message.replace("(", r"\(").replace("?", r"\?")):
        declared(**options)


@pytest.mark.parametrize("name", ["Receipts", "re-ceipts", "1st", "", "a/b"])
def test_a_name_that_cannot_stand_in_an_address_is_refused(name):
    with pytest.raises(DeclarationError, match="lower-case letters, digits and underscores"):
        endpoint(name, predictions=till.scored)


def test_an_event_that_does_not_fit_is_told_with_the_other_declarations():
    def catalog(*asked):
        return Catalog((*till.DECLARED, *asked), EXTERNAL)

    assert [one.word for one in catalog(declared()).endpoints] == ["receipts"]
    with pytest.raises(DeclarationError, match=r"reads till.gold.receipt, which no product declares.*did you mean till.gold.receipts"):
        catalog(declared(event="till.gold.receipt"))
    with pytest.raises(DeclarationError, match=r"event='till.models.returned' is no table with a contract"):
        catalog(declared(event="till.models.returned"))


def test_a_feature_set_that_no_event_leads_to_is_refused():
    from typing import Any

    import polars as pl

    @predictions("till.predictions.shops", contract=till.Score, model=till.returned, features="till.features.receipts",
                 key=("receipt", "model_version"), row_for_row=True)  # fmt: skip
    def other(champion: Any, features: pl.LazyFrame) -> pl.LazyFrame:
        """Of other events."""
        return features

    with pytest.raises(DeclarationError, match=r"event='till.features.shops'|rows of till.features.receipts are found by receipt"):
        Catalog((*till.DECLARED, other, endpoint("other", predictions=other, event="till.features.shops")), EXTERNAL)
