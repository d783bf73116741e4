"""A real Prometheus scrapes a real run in which much goes wrong: every dashboard has answers."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, dispatcher, envelope, produce, until
from tests.k8s.chart import CHART
from tests.k8s.having import need
from tests.k8s.prometheus import Prometheus, QueryRefused, alerts
from tests.support.brokers import Broker
from tests.support.receivers import Receiver

pytestmark = [
    pytest.mark.k8s,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("broker", ["embedded"], indirect=True),
]

PATIENCE: Final = 180.0
BUILT_IN: Final = {"__rate_interval": "15s", "__range": "5m", "__interval": "15s"}
MAY_BE_EMPTY: Final = {
    "Refused by a validator",  # its receivers stand on loopback, which is allowed here
    "Records lost",  # none were
    "Clock skew",  # told by Apache Kafka's clock; the embedded broker stamps nothing
}


def queries(path: Path) -> Iterator[tuple[str, str]]:
    """Title and query of each panel, Grafana's variables filled in; and of each variable."""
    dashboard = json.loads(path.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], filled(target["expr"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found is not None
            yield f"variable {variable['name']}", f"count by ({found[2]}) ({filled(found[1])})"


def filled(query: str) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda found: BUILT_IN.get(found[1], ".*"), query)


def wrong(prometheus: Prometheus, title: str, query: str) -> str | None:
    try:
        found = prometheus.ask(query)
    except QueryRefused as error:
        return f"{title}: {error}: {query}"
    if found or title in MAY_BE_EMPTY:
        return None
    return f"{title}: no data: {query}"


def much_goes_wrong(receiver: Receiver) -> dict[str, Any]:
    """Subscribers that make every kind of number."""
    ordered = {"event": "order.*", "ordering": "key", "retry_delay": 0.2, "retry_max": 1}
    return {
        "subscribers": [],
        "subscriber_files": ["subscribers.yaml"],
        "circuit": {"failures": 3, "open_for": 1, "open_for_max": 2},
        "listed": [
            {"id": "well", "event": "order.*", "url": receiver.url("/ok")},
            {"id": "down", "event": "order.*", "url": receiver.url("/status/503"), "retry_max": 1},
            {"id": "gone", "event": "order.*", "url": receiver.url("/status/410")},
            {"id": "inorder", "url": receiver.url("/ok/ordered"), **ordered},
            {
                "id": "blocked",
                "url": receiver.url("/status/500"),
                "on_exhausted": "block",
                **ordered,
            },
        ],
    }


def send(broker: Broker, topic: str) -> None:
    """Twenty events that are well, and one of each that is not."""
    servers = broker.real.bootstrap_servers
    produce(servers, topic, [envelope("order.paid", n=n) for n in range(20)], key=b"k")
    produce(servers, topic, [b"no envelope", envelope("nobody.wants"), None])
    headers = {"thorn-id": "", "thorn-timeout": "999"}
    produce(servers, topic, [envelope("order.odd")], headers=headers, key=b"k")


def write(one: Path, subscribers: list[dict[str, Any]]) -> None:
    (one / "subscribers.yaml").write_text(yaml.safe_dump({"subscribers": subscribers}))


def check_metrics(tools: Path, one: Dispatcher) -> str:
    """What promtool finds wrong with the names, types and help of what is scraped."""
    done = subprocess.run(
        [need(tools / "bin" / "promtool"), "check", "metrics"],
        input=one.get("/metrics")[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_every_query_has_an_answer(
    broker: Broker,
    receiver: Receiver,
    settings: Settings,
    tools: Path,
    tmp_path: Path,
) -> None:
    """That of each panel and variable, and promtool finds no fault in what is scraped."""
    topic = broker.topic("in")
    made = much_goes_wrong(receiver)
    listed = made.pop("listed")
    folder = tmp_path / "one"
    folder.mkdir()
    write(folder, listed[:1])
    with dispatcher(folder, settings(**made)) as one:
        one.ready(60)
        targets = [f"127.0.0.1:{one.port}"]
        with Prometheus(tools, tmp_path / "prometheus", targets, alerts(15)) as prometheus:
            until(lambda: bool(prometheus.ask("thorn_build_info")), PATIENCE, "scraped")
            write(folder, listed)
            until(lambda: one.metric("thorn_reload_total", result="ok") >= 1, PATIENCE, "reloaded")
            # an ordered one gets what comes after it has begun
            begun = "ordered subscriber begins"
            until(lambda: one.said().count(begun) == 2, PATIENCE, "ordered ones begin")
            send(broker, topic)
            until(lambda: receiver.count("/ok") >= 20, PATIENCE, "delivered")
            # counters that begin with an event show a rate from the second one on
            until(lambda: one.metric("thorn_parked_total", cause="circuit") > 0, PATIENCE, "parked")
            until(lambda: one.metric("thorn_ordered_blocked") > 0, PATIENCE, "blocked")
            send(broker, topic)

            left = [
                pair for path in (CHART / "dashboards").glob("*.json") for pair in queries(path)
            ]
            assert len(left) > 60
            said: list[str] = []

            def answered() -> bool:
                """What has an answer once need not be asked again."""
                unanswered = [(pair, text) for pair in left if (text := wrong(prometheus, *pair))]
                left[:] = [pair for pair, _ in unanswered]
                said[:] = [text for _, text in unanswered]
                return not left

            try:
                until(answered, PATIENCE, "every query answered")
            except AssertionError:
                pytest.fail("\n".join(said))
            assert check_metrics(tools, one) == ""
