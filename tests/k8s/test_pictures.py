"""Every panel drawn from a run of two minutes, with a bad time in its middle, to be looked at.

`PICTURES=FOLDER make test-k8s ARGS="-k pictures"` keeps the drawings.
"""

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.rig import dispatcher, envelope, produce, until
from tests.k8s.chart import CHART
from tests.k8s.pictures import draw
from tests.k8s.prometheus import Prometheus, alerts
from tests.k8s.test_live import MAY_BE_EMPTY, filled, write
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver

pytestmark = [
    pytest.mark.k8s,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("broker", ["embedded"], indirect=True),
]

PATIENCE: Final = 180.0
SHOWN: Final = 120.0  # seconds, of which the middle third is bad


def subscribers(receiver: Receiver) -> list[dict[str, Any]]:
    """Two are well, one is slow, one flaky, one has a bad time, one is gone, two are ordered."""
    ordered = {"ordering": "key", "retry_delay": 0.2, "retry_max": 1}
    url = receiver.url
    return [
        {"id": "billing", "event": "order.*", "url": url("/ok")},
        {"id": "crm", "event": "order.*", "url": url("/slow/0.05")},
        {"id": "reports", "event": "order.*", "url": url("/slow/0.5"), "max_in_flight": 2},
        {"id": "search", "event": "order.*", "url": url("/flaky")},
        {"id": "shipping", "event": "order.*", "url": url("/moody")},
        {"id": "old", "event": "order.odd", "url": url("/status/410")},
        {"id": "ledger", "event": "order.*", "url": url("/ok/ordered"), **ordered},
        {
            "id": "audit",
            "event": "audit.*",
            "url": url("/moody/ordered"),
            **ordered,
            "on_exhausted": "block",
        },
    ]


class Run:
    """Twenty events a second, some of them odd; from a third to two thirds one receiver is down."""

    def __init__(self, broker: Broker, topic: str, receiver: Receiver) -> None:
        self._servers, self._topic = broker.real.bootstrap_servers, topic
        self._bad = False
        self._asked = 0
        receiver.modes |= {"moody": self._answer, "flaky": self._flaky}

    async def _flaky(self, call: Call) -> None:
        self._asked += 1
        await call.answer(200 if self._asked % 5 else 502)

    async def _answer(self, call: Call) -> None:
        await call.answer(500 if self._bad else 200)

    def go(self) -> None:
        began = time.monotonic()
        second = 0
        while (passed := time.monotonic() - began) < SHOWN:
            self._bad = SHOWN / 3 < passed < 2 * SHOWN / 3
            values: list[bytes | None] = [envelope("order.paid", n=n) for n in range(20)]
            for number, value in enumerate(values):
                produce(self._servers, self._topic, [value], key=b"k%d" % (number % 7))
            produce(self._servers, self._topic, [envelope("audit.made")], key=b"audit")
            odd: list[bytes | None] = [b"no envelope", envelope("nobody.wants"), None]
            produce(self._servers, self._topic, odd if second % 5 == 0 else [])
            headers = {"thorn-id": "", "thorn-timeout": "999"}
            produce(self._servers, self._topic, [envelope("order.odd")], headers=headers)
            second += 1
            time.sleep(max(0.0, began + second - time.monotonic()))


def test_every_panel_is_drawn(
    broker: Broker,
    receiver: Receiver,
    settings: Settings,
    tools: Path,
    tmp_path: Path,
) -> None:
    """Each has lines, and legends that name labels of their series."""
    topic = broker.topic("in")
    given = settings(
        subscribers=[],
        subscriber_files=["subscribers.yaml"],
        circuit={"failures": 3, "open_for": 1, "open_for_max": 5},
        lane_size=20,
        lane_wait_max=2,
    )
    folder = Path(os.environ.get("PICTURES") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        homes = [tmp_path / f"d{number}" for number in range(2)]
        for home in homes:
            home.mkdir()
            write(home, subscribers(receiver)[1:])
        ones = [stack.enter_context(dispatcher(home, given)) for home in homes]
        for one in ones:
            one.ready(PATIENCE)
        targets = [f"127.0.0.1:{one.port}" for one in ones]
        prometheus = stack.enter_context(
            Prometheus(tools, tmp_path / "prometheus", targets, alerts(15))
        )
        until(lambda: len(prometheus.ask("thorn_build_info")) == 2, PATIENCE, "scraped")
        began = time.time()
        for home in homes:  # one more: a reload
            write(home, subscribers(receiver))
        Run(broker, topic, receiver).go()
        ended = time.time()
        empty = []

        def course(query: str) -> list[Any]:
            found = prometheus.course(filled(query), (began, ended), 2)
            if not found:
                empty.append(query)
            return found

        for path in sorted((CHART / "dashboards").glob("*.json")):
            dashboard = json.loads(path.read_text())
            (folder / f"{path.stem}.svg").write_text(draw(dashboard, course, (began, ended)))
            may = [
                target["expr"]
                for panel in dashboard["panels"]
                for target in panel.get("targets", [])
                if panel["title"] in MAY_BE_EMPTY
            ]
            assert [query for query in empty if query not in may] == []
            empty.clear()
