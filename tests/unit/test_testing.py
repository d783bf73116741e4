"""What users' tests are given: events that are kept, and what to ask of them."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from thorn_stream.events import Event, Thorn
from thorn_stream.events.state import set_current_app
from thorn_stream.testing import SentEvents, keeping_events


def test_events_are_kept_whatever_their_dispatcher() -> None:
    """Nothing leaves the process, and the settings are not asked."""
    with keeping_events() as events:
        thorn = Thorn(dispatcher="disabled", set_as_current=False)
        thorn.Event("order.paid", dispatcher="memory").send({"state": "PAID", "total": 5})
        Event("order.sent", app=thorn).send({"state": "SENT"}, sender=3)
    assert [event.name for event in events.sent] == ["order.paid", "order.sent"]
    (paid,) = events.assert_sent("order.*", data__state__eq="PAID", data__total__gt=4)
    assert paid.data == {"state": "PAID", "total": 5}
    assert events.assert_sent("order.*", count=2) == events.sent
    events.assert_not_sent("order.paid", data__total__gt=5)
    thorn.Event("order.late").send({})
    assert len(events.sent) == 2


def test_what_was_not_sent_is_told_with_what_was() -> None:
    """The message is all that a failing test shows."""
    events = SentEvents()
    with pytest.raises(AssertionError, match=r"an event 'order\.\*' expected, 0 sent.*none"):
        events.assert_sent("order.*")
    with keeping_events() as events:
        Event("order.paid", app=Thorn(dispatcher="disabled", set_as_current=False)).send({"id": 7})
    with pytest.raises(AssertionError, match=r"2 events .*data__id__eq=7 expected, 1 sent.*order"):
        events.assert_sent(count=2, data__id__eq=7)
    with pytest.raises(ValueError, match="data__id: ends with no operator"):
        events.assert_sent(data__id=7)
    set_current_app(None)


@pytest.mark.timeout(150)  # another pytest starts
def test_the_fixture_comes_with_the_package(tmp_path: Path) -> None:
    """A user's test asks for `thorn_events` and imports nothing for it."""
    (tmp_path / "test_shop.py").write_text(
        textwrap.dedent(
            """
            from thorn_stream import Event

            order_paid = Event("order.paid")

            def test_paying(thorn_events):
                order_paid.send({"state": "PAID"}).wait()
                assert len(thorn_events.sent) == 1
                thorn_events.assert_sent("order.*", data__state__eq="PAID")
            """
        )
    )
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr
