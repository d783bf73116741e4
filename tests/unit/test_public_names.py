"""The public doors: exactly these names, and they can be used as they are typed."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import thorn_stream
from tests.typing import api

DOORS = {
    "thorn_stream": {
        "Event",
        "EventNotSent",
        "ModelEvent",
        "Q",
        "Request",
        "SecurityError",
        "Subscriber",
        "Thorn",
        "__version__",
        "buffer_events",
        "model_reverser",
        "verify",
        "webhook_model",
    },
    "thorn_stream.events": {
        "Buffer",
        "Dispatcher",
        "Event",
        "EventNotSent",
        "Handle",
        "ModelEvent",
        "Q",
        "Request",
        "RequestFailed",
        "Thorn",
        "buffer_events",
        "current_app",
        "model_reverser",
        "webhook_model",
    },
    "thorn_stream.django": {
        "Event",
        "ModelEvent",
        "Q",
        "buffer_events",
        "model_reverser",
        "webhook_model",
    },
    "thorn_stream.validators": {
        "Guard",
        "SecurityError",
        "Validator",
        "block_cidr_network",
        "block_internal_ips",
        "deserialize_validator",
        "ensure_port",
        "ensure_protocol",
        "serialize_validator",
    },
    "thorn_stream.testing": {
        "Answer",
        "Call",
        "MemoryClock",
        "MemoryReplay",
        "MemorySink",
        "MemorySource",
        "MemorySubscribers",
        "MemoryTransport",
        "RecordingObserver",
        "SentEvent",
        "SentEvents",
        "keeping_events",
    },
    "thorn_stream.sqlalchemy": {
        "Event",
        "ModelEvent",
        "Q",
        "StatementWarning",
        "buffer_events",
        "dispatch_on_change",
        "dispatch_on_create",
        "dispatch_on_delete",
        "dispatch_on_m2m_add",
        "dispatch_on_m2m_clear",
        "dispatch_on_m2m_remove",
        "model_reverser",
        "signal_dispatcher",
        "webhook_model",
    },
}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_exports_exactly_its_names(door: str) -> None:
    """A name that goes is a breaking change; one that comes is a promise."""
    module = importlib.import_module(door)
    assert set(module.__all__) == DOORS[door]
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """Names are imported when first asked for; that must not hide a slip of the pen."""
    with pytest.raises(AttributeError, match="'thorn_stream' has no attribute 'Subscribers'"):
        thorn_stream.Subscribers  # noqa: B018 - asking for it is the test


def test_importing_the_package_imports_nothing_heavy() -> None:
    """A receiver that only verifies must not load Kafka's client, pydantic or an HTTP library."""
    program = (
        "import sys; from thorn_stream import verify; "
        "print([m for m in ('confluent_kafka', 'pydantic', 'httptools', 'structlog')"
        " if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_types_are_shipped() -> None:
    """Without the marker, type checkers treat the package as untyped (PEP 561)."""
    assert (Path(thorn_stream.__file__).parent / "py.typed").is_file()


def test_a_typed_program_runs() -> None:
    """What mypy accepts in `tests/typing/api.py` is true when it runs as well."""
    assert api.subscribed().id == "billing"
    assert not api.received("secret", {}, b"{}")
    assert api.checked("https://a.example/") is None
    refused = api.checked("https://10.2.0.1/")
    assert refused is not None
    assert refused.startswith("block_internal_ips: 10.2.0.1 is private use")
    assert api.checked("https://a.test/") == "only example hosts"
    assert [call.name for call in api.in_memory()] == ["consumed"]
    assert [event.name for event in api.published()] == ["order.paid"]
