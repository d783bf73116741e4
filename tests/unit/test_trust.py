"""Whoever writes events chooses nothing beyond what the settings allow: headers that try to."""

import json
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.support.dispatching import Rig, World, subscriber
from thorn_stream.app import _lane_settings
from thorn_stream.config import Settings
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.overrides import EventRules
from thorn_stream.core.records import Headers
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.urls import Refusal
from thorn_stream.core.validators import Guard
from thorn_stream.dispatch.lane import LaneSettings

SECRET = "hunter2-in-the-environment"
TRAP = "thorn_trap"
SETTINGS = Guard.from_names(
    [["block_internal_ips"], ["ensure_protocol", ["http", "https"]], ["ensure_port", [80, 443]]]
)
RULES = EventRules(subscribers=True)

_seen: list[tuple[str, str]] = []
_watching = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in {"import", "open", "exec", "subprocess.Popen", "os.system"}:
        _seen.append((event, repr(arguments)))


class Signing(Rig):
    """Prepares its Lanes as a dispatcher does, with a master secret."""

    def prepare(self, one: Subscriber) -> LaneSettings:
        return _lane_settings(Settings(), lambda: "a master secret")(one)


class Watch:
    """What this process imports, opens and starts meanwhile, where a trap is named."""

    _hooked = False

    def __enter__(self) -> list[tuple[str, str]]:
        global _watching  # noqa: PLW0603 -- a hook stays for the life of the process
        if not Watch._hooked:
            Watch._hooked = True
            sys.addaudithook(_hook)
        _seen.clear()
        _watching = True
        return _seen

    def __exit__(self, *error: object) -> None:
        global _watching  # noqa: PLW0603 -- as above
        _watching = False


def recipients(*entries: object) -> Headers:
    return [("thorn-subscribers", json.dumps(entries).encode())]


def validators(*rules: object) -> Headers:
    return [("thorn-validators", json.dumps(rules).encode())]


REFERENCE = f"!{TRAP}.module:name"
FILE = f"file:{TRAP}.txt"
ENV = "env:THORN_TRAP_SECRET"
HOSTILE: dict[str, Headers] = {
    "import: a validator": validators([REFERENCE]),
    "import: a validator's argument": validators(["ensure_port", [REFERENCE]]),
    "import: a bare reference": validators(REFERENCE),
    "import: a recipient": recipients(REFERENCE),
    "import: a recipient's url": recipients({"url": REFERENCE}),
    "import: a recipient's secret": recipients({"url": "http://x", "hmac_secret": REFERENCE}),
    "import: a recipient's filter": recipients({"url": "http://x", "filter": {"a__eq": REFERENCE}}),
    "import: a header": [("thorn-http-X-A", REFERENCE.encode())],
    "import: an id": [("thorn-id", REFERENCE.encode())],
    "file: a secret": recipients({"url": "http://x", "hmac_secret": FILE}),
    "file: several secrets": recipients({"url": "http://x", "hmac_secret": [FILE, ENV]}),
    "file: certificates": recipients({"url": "https://x", "tls": {"cert_file": f"{TRAP}.txt"}}),
    "file: an authority": recipients({"url": "https://x", "tls": {"ca_file": f"{TRAP}.txt"}}),
    "file: a url": recipients(FILE, f"file:///{TRAP}.txt"),
    "file: a header": recipients({"url": "http://x", "headers": {"X-A": FILE}}),
    "file: an argument": validators(["block_cidr_network", [FILE]]),
    "env: a secret": recipients({"url": "http://x", "hmac_secret": ENV}),
    "env: a header of a recipient": recipients({"url": "http://x", "headers": {"X-A": ENV}}),
    "env: a header": [("thorn-http-X-A", ENV.encode()), ("thorn-http-X-B", b"$THORN_TRAP_SECRET")],
    "env: a url": recipients(ENV, "http://${THORN_TRAP_SECRET}/"),
    "env: an argument": validators(["ensure_protocol", [ENV]]),
    "sign: another's id": recipients({"id": "billing", "url": "http://thief"}),
    "sign: a definition": [
        ("thorn-subscriber-definition", b'{"id":"billing","event":["*"],"url":"http://thief"}'),
        ("thorn-subscriber", b"billing"),
    ],
    "sign: our own headers": [
        ("thorn-http-Hook-HMAC", b"forged"),
        ("thorn-http-webhook-signature", b"v1,forged"),
        ("thorn-http-Hook-Subscription", b"billing"),
        ("thorn-http-Authorization", b"Bearer forged"),
        ("thorn-http-Cookie", b"forged"),
        ("thorn-http-Host", b"forged"),
        ("thorn-http-Transfer-Encoding", b"chunked"),
        ("thorn-http-X-A: b\r\nX-Injected", b"forged"),
        ("thorn-http-X-B", b"a\r\nX-Injected: forged"),
    ],
    "loosen: no validators": validators(),
    "loosen: another list": validators(["ensure_port", list(range(1, 20))]),
    "loosen: an argument": validators(["block_internal_ips", ["0.0.0.0/0"]]),
    "loosen: a keyword": validators(["block_internal_ips", {"allowed": ["0.0.0.0/0"]}]),
    "loosen: a map": [("thorn-validators", b'{"block_internal_ips": false}')],
    "loosen: networks": [
        ("thorn-allowed-networks", b'["0.0.0.0/0"]'),
        ("thorn-recipient-validators", b"[]"),
    ],
    "loosen: a recipient's own": recipients(
        {"url": "http://x", "recipient_validators": [], "allowed_networks": ["0.0.0.0/0"]}
    ),
    "ceiling: times": [
        ("thorn-timeout", b"999999"),
        ("thorn-retry-max", b"999999"),
        ("thorn-retry-delay", b"999999999"),
    ],
    "ceiling: a recipient's": recipients(
        {"url": "http://x", "timeout": 1e9, "retry_max": 10**9, "max_in_flight": 10**9}
    ),
    "ceiling: a rate": recipients({"url": "http://x", "rate_limit": 1e9, "ordering": "key"}),
    "ceiling: many": recipients(*({"url": f"http://x{n}"} for n in range(101))),
}


@pytest.mark.parametrize("tried", sorted(HOSTILE))
def test_no_header_chooses_what_the_settings_do_not_allow(
    tried: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is imported, read, signed, loosened or stretched; the partition goes on."""
    (tmp_path / f"{TRAP}.txt").write_text(SECRET)
    monkeypatch.setenv("THORN_TRAP_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    world = World()
    attempts: list[Any] = []

    async def life() -> None:
        rig = Signing(world, subscriber("billing", url="http://billing"), rules=RULES).start()
        rig.publish(headers=HOSTILE[tried])
        rig.publish()
        await rig.until(lambda: rig.committed == 2)
        attempts.extend(rig.transport.attempts)

    with Watch() as seen:
        world.live(life())
    assert [one for one in seen if TRAP in one[1]] == []
    assert SECRET not in repr([record.headers for record in world.dead])
    for attempt in attempts:
        head = attempt.headers.lower()
        assert SECRET.encode() not in attempt.headers + attempt.body
        assert attempt.timeout <= RULES.timeout_max
        assert attempt.target != "http://thief"
        assert b"forged" not in head
        signed = b"webhook-signature" in head and b"hook-hmac" in head
        assert signed == (attempt.target == "http://billing")
        judged = SETTINGS if attempt.guard is None else SETTINGS.plus(attempt.guard.validators)
        assert judged.address(ip_address("10.0.0.1")) is not None
        assert isinstance(judged.url("http://x:8080/"), Refusal)
    # the second event is not concerned
    assert [each.delivery.envelope.record.offset for each in attempts][-1] == 1


def test_the_traps_would_be_seen(tmp_path: Path) -> None:
    """The same watch sees an import of that module, and that file being opened."""
    (tmp_path / f"{TRAP}.txt").write_text(SECRET)
    with Watch() as seen:
        with pytest.raises(ModuleNotFoundError):
            __import__(f"{TRAP}.module")
        (tmp_path / f"{TRAP}.txt").read_text()
    assert {event for event, what in seen if TRAP in what} == {"import", "open"}


def test_a_reference_is_refused_by_the_guard_itself() -> None:
    """`!package.module:name` is resolved by what reads settings alone, and means nothing here."""
    with pytest.raises(ConfigurationError, match="no validator '!os:getcwd'"):
        Guard.from_names([["!os:getcwd"]], place="thorn-validators")
