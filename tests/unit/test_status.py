"""`subscribers status` and `list`, for people."""

from thorn_stream.core.directory import Directory
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.ops import roster, status
from thorn_stream.ops.status import Waiting


def test_what_a_topic_holds_does_not_steer_the_terminal() -> None:
    """Names and errors are read from Kafka: each stays on its line, its escapes shown."""
    found = [Waiting("a\x1b[2J", None, "none", 3, 1_000, "x\ny\x07")]
    told = status.table(found, 61_000)
    assert len(told) == 2
    assert all(line.isprintable() for line in told)
    assert told[1].split() == ["a\\x1b[2J", "unknown", "3", "60s", "x\\ny\\x07"]


def test_subscribers_stand_a_line_each() -> None:
    """Under one head, without what their URLs may keep secret."""
    one = Subscriber(id="a", event=("order.*", "x"), url="https://a.example/?token=s")
    told = roster.table(Directory([("settings", [one])]))
    assert [line.split()[:4] for line in told] == [
        ["subscriber", "state", "ordering", "event"],
        ["a", "enabled", "none", "order.*,x"],
    ]
    assert "token=s" not in told[1]
