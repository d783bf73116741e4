"""Leaving the group while it waits for somebody who does not answer."""

import signal
from pathlib import Path

from tests.e2e.conftest import Settings
from tests.e2e.rig import dispatcher, until
from tests.support.brokers import Broker


def test_a_stop_in_the_middle_of_a_rebalance_leaves_the_group(
    broker: Broker, settings: Settings, tmp_path: Path
) -> None:
    """With a member standing still, another that has just joined stops with status 0.

    Gone without leaving, it would be one more whom the others wait for.
    """
    broker.topic("in")
    with dispatcher(tmp_path / "still", settings("/ok")) as still:
        still.ready()
        still.process.send_signal(signal.SIGSTOP)
        with dispatcher(tmp_path / "joins", settings("/ok")) as joins:
            until(lambda: "not assigned yet" in joins.get("/readyz")[1], 20, "joining")
            assert joins.stop() == 0, joins.said()
