"""Versions are swapped under load without a failed request; a version that cannot answer is not taken, and who asks is told why."""

import shutil
import threading
from pathlib import Path

import pytest

from lakehouse_assets.platform.registry.model_package import EXAMPLE_PREDICTIONS
from lakehouse_assets_tests.platform.serving.asking import Connection, under_load
from lakehouse_assets_tests.platform.serving.till import Till, constant, listening, receipt, settings_in, until

PATH = "/endpoints/receipts"


@pytest.fixture
def till(tmp_path):
    return Till(settings_in(tmp_path))


def version_of(service) -> int | None:
    versions = service.served["receipts"].versions
    return None if versions is None else versions.champion.champion.version


def test_promotions_and_rollbacks_under_load_fail_no_request_and_mix_no_versions(till):
    numbers = [till.add(constant(0.1 * (number + 1))) for number in range(3)]
    shares = {number: 0.1 * number for number in numbers}
    till.promote(numbers[0])
    service = till.service()

    def ask(connection: Connection, number: int):
        return connection.post(PATH, {"rows": [receipt(10 * number), receipt(10 * number + 1)]})

    def change() -> None:
        for step in range(20):
            wanted = numbers[step % 3]
            if step % 4 == 3:
                wanted = till.decisions.rollback().champion
            else:
                till.promote(wanted)
            until(lambda wanted=wanted: version_of(service) == wanted)

    with listening(service) as address:
        until(lambda: version_of(service) is not None)
        answers = under_load(address, 4, ask, change)
    assert len(answers) > 20
    assert {status for status, _ in answers} == {200}
    for _, answer in answers:
        versions = {row["model_version"] for row in answer["predictions"]}
        assert len(versions) == 1
        assert [row["probability"] for row in answer["predictions"]] == pytest.approx([shares[next(iter(versions))]] * 2)


def test_a_version_that_predicts_something_else_than_when_it_was_logged_is_not_taken(till):
    good, bad, gone = (till.add(constant(share)) for share in (0.1, 0.2, 0.3))
    registry = till.root.registry()
    folder = registry.model_folder(registry.version("till.models.returned", bad)).parent
    shutil.copy(registry.model_folder(registry.version("till.models.returned", good)).parent / EXAMPLE_PREDICTIONS, folder)
    shutil.rmtree(registry.model_folder(registry.version("till.models.returned", gone)))
    till.promote(good)
    service = till.service()
    with listening(service) as address:
        connection = Connection(address)
        until(lambda: version_of(service) == good)
        for number, why in ((bad, "golden rows"), (gone, "cannot be loaded")):
            till.promote(number)
            until(lambda why=why: why in service.served["receipts"].why.get("champion", ""))
            status, answer = connection.post(PATH, receipt(number))
            assert (status, answer["predictions"][0]["model_version"]) == (200, good)
        _, ready = connection.get("/ready")
        assert (ready["ready"], "cannot be loaded" in ready["endpoints"]["receipts"]["not_taken"]["champion"]) == (True, True)
        assert 'lakehouse_models_not_taken_total{endpoint="receipts"} 2.0' in connection.get("/metrics")[1]
        till.promote(good)
        until(lambda: not service.served["receipts"].why)
        connection.close()


def test_the_version_that_is_loaded_goes_on_while_the_tables_are_gone(till):
    first, second = till.add(constant(0.1)), till.add(constant(0.2))
    till.promote(first)
    service = till.service()
    tables = Path(till.root.settings.tables)
    elsewhere = tables.with_name("elsewhere")
    with listening(service) as address, Connection(address) as connection:
        until(lambda: version_of(service) == first)
        tables.rename(elsewhere)
        until(lambda: "is not there" in service.served["receipts"].why.get("champion", ""))
        assert connection.post(PATH, receipt())[1]["predictions"][0]["model_version"] == first
        status, said = connection.get("/ready")
        assert (status, "is not there" in said["endpoints"]["receipts"]["not_taken"]["champion"]) == (200, True)
        if tables.exists():
            shutil.rmtree(tables)
        elsewhere.rename(tables)
        until(lambda: not service.served["receipts"].why)
        till.promote(second)
        until(lambda: version_of(service) == second)


def test_nothing_answers_before_there_is_a_champion_and_mlflow_away_is_no_failure(till):
    service = till.service()
    registry = service.root.registry
    with listening(service) as address:
        connection = Connection(address)
        status, answer = connection.post(PATH, receipt())
        assert (status, "has no model that can answer" in answer["errors"][0]["message"]) == (503, True)
        assert connection.get("/ready")[0] == 503
        first, second = till.add(constant(0.1)), till.add(constant(0.2))
        till.promote(first)
        until(lambda: version_of(service) == first)

        def away():
            raise ConnectionError("MLflow does not answer")

        service.reloader._registry = away
        till.promote(second)
        until(lambda: "MLflow does not answer" in service.served["receipts"].why.get("champion", ""))
        assert connection.post(PATH, receipt(2))[1]["predictions"][0]["model_version"] == first
        service.reloader._registry = registry
        until(lambda: version_of(service) == second)
        connection.close()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_challenger_answers_its_share_always_of_the_same_keys_or_scores_in_the_shadow(till, share):
    champion, challenger = till.add(constant(0.1)), till.add(constant(0.9))
    till.promote(champion)
    till.challenge(challenger)
    service = till.service(challenger=share) if share else till.service(shadow=True)
    logged = []
    append = service.log.append
    service.log.append = lambda records: (logged.extend(records), append(records))
    with listening(service) as address:
        connection = Connection(address)
        until(lambda: (versions := service.served["receipts"].versions) is not None and versions.challenger is not None)
        rows = {"rows": [receipt(number) for number in range(200)]}
        first, again = (connection.post(PATH, rows)[1]["predictions"] for _ in range(2))
        alone = [connection.post(PATH, receipt(number))[1]["predictions"][0]["variant"] for number in range(10)]
        connection.close()
        if not share:
            until(lambda: sum(record.count for record in logged if record.variant == "shadow") == 410)
    variants = [row["variant"] for row in first]
    assert variants == [row["variant"] for row in again]
    assert variants[:10] == alone
    assert {(row["variant"], row["model_version"], round(row["probability"], 6)) for row in first} <= {
        ("champion", champion, 0.1),
        ("challenger", challenger, 0.9),
    }
    assert 70 < variants.count("challenger") < 130 if share else "challenger" not in variants
    if not share:
        shadows = [record for record in logged if record.variant == "shadow"]
        assert {(record.model_version, one["probability"]) for record in shadows for one in record.predictions} == {(challenger, 0.9)}


def test_a_challenger_that_stands_still_in_the_shadow_holds_no_request_up(till):
    till.promote(till.add(constant(0.1)))
    till.challenge(till.add(constant(0.9)))
    service = till.service(shadow=True)
    goes_on, features = threading.Event(), till.online.features

    def waiting(*given):
        if threading.current_thread().name == "shadow":
            goes_on.wait(30)
        return features(*given)

    till.online.features = waiting
    logged = []
    append = service.log.append
    service.log.append = lambda records: (logged.extend(records), append(records))
    with listening(service) as address, Connection(address) as connection:
        until(lambda: (versions := service.served["receipts"].versions) is not None and versions.challenger is not None)
        answers = [connection.post(PATH, receipt(number)) for number in range(20)]
        assert [status for status, _ in answers] == [200] * 20
        assert not any(record.variant == "shadow" for record in logged)
        goes_on.set()
        until(lambda: sum(record.count for record in logged if record.variant == "shadow") == 20)


def test_a_champion_that_was_set_by_hand_in_mlflow_answers_within_seconds(till):
    first, second = till.add(constant(0.1)), till.add(constant(0.2))
    till.promote(first)
    service = till.service(alias_seconds=0.1)
    with listening(service) as address, Connection(address) as connection:
        until(lambda: version_of(service) == first)
        till.root.registry()._client().set_registered_model_alias("till.models.returned", "champion", str(second))
        until(lambda: version_of(service) == second)
        assert connection.post(PATH, receipt())[1]["predictions"][0]["model_version"] == second
    decisions = till.root.lakehouse.table("till.models.returned").scan().collect()
    assert decisions.sort("sequence")["decision"].to_list()[-1] == "promoted by hand in MLflow"
