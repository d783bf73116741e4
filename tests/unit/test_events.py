"""Events: what they take, what they send, and how they are held back."""

import json
import pickle
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from thorn_stream.core.errors import ConfigurationError, EventNotSent
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.events import Event, Handle, ModelEvent, Q, Thorn, current_app, model_reverser
from thorn_stream.events.memory import Memory, SentEvent
from thorn_stream.events.state import set_current_app
from thorn_stream.validators import (
    Validator,
    block_cidr_network,
    block_internal_ips,
    ensure_port,
    ensure_protocol,
)

USER = SimpleNamespace(pk=42)


@pytest.fixture
def thorn() -> Iterator[Thorn]:
    """An app that keeps what is sent."""
    yield Thorn(dispatcher="memory")
    set_current_app(None)


def sent(thorn: Thorn) -> list[SentEvent]:
    memory = thorn.dispatcher
    assert isinstance(memory, Memory)
    return memory.sent


class Recorder:
    """A dispatcher with Thorn's own interface, as somebody may have written one."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def send(self, *args: Any, **kwargs: Any) -> str:
        self.calls.append((args, kwargs))
        return "theirs"

    def subscribers_for_event(self, name: str, extra_subscribers: Any = None) -> list[Any]:
        return [name, extra_subscribers]


# --- what is sent -------------------------------------------------------------------------------


def test_an_event_is_an_envelope(thorn: Thorn) -> None:
    """Name, sender's key and data; nothing a dispatcher would have to guess."""
    handle = thorn.Event("order.paid", timeout=5).send({"id": 7}, sender=USER, key="k")
    (event,) = sent(thorn)
    assert event.envelope == {"event": "order.paid", "ref": None, "sender": 42, "data": {"id": 7}}
    assert event.key == b"k"
    assert event.headers == {"thorn-id": handle.id, "thorn-timeout": "5"}
    assert handle.done
    assert handle.wait() is handle


def test_settings_of_an_event_travel_as_headers(thorn: Thorn) -> None:
    """Only what was said; False is said, too."""
    event = thorn.Event(
        "order.paid",
        retry=False,
        retry_max=7,
        retry_delay=0.5,
        allow_keepalive=False,
        recipient_validators=[ensure_protocol("https"), ["ensure_port", [443]]],
        subscribers=["https://a.example/", None, [{"url": "https://b.example/", "id": "b"}]],
    )
    event.send({}, timeout=2.25, headers={"X-Shop": "zwölf"})
    (told,) = sent(thorn)
    headers = dict(told.headers)
    del headers["thorn-id"]
    assert headers == {
        "thorn-timeout": "2.25",
        "thorn-retry": "false",
        "thorn-retry-max": "7",
        "thorn-retry-delay": "0.5",
        "thorn-allow-keepalive": "false",
        "thorn-validators": '[["ensure_protocol",["https"]],["ensure_port",[443]]]',
        "thorn-subscribers": '["https://a.example/",{"url":"https://b.example/","id":"b"}]',
        "thorn-http-X-Shop": "zwölf",
    }


def test_request_data_gives_way_to_the_callers_own(thorn: Thorn) -> None:
    """Into the data of an Event, into the top level of a ModelEvent."""
    thorn.Event("a.b", request_data={"agent": "A", "x": 1}).send({"x": 2})
    model = thorn.ModelEvent("c.d", request_data={"agent": "A", "ref": "never"})
    model.send(SimpleNamespace(), {"x": 2})
    plain, of_model = sent(thorn)
    assert plain.data == {"agent": "A", "x": 2}
    assert of_model.envelope == {
        "event": "c.d",
        "ref": None,
        "sender": None,
        "data": {"x": 2},
        "agent": "A",
    }


@pytest.mark.parametrize(
    ("sender", "written"),
    [
        (None, None),
        (7, 7),
        ("george", "george"),
        (UUID(int=5), str(UUID(int=5))),
        (SimpleNamespace(pk=UUID(int=6)), str(UUID(int=6))),
        (SimpleNamespace(id=8), 8),
        (SimpleNamespace(pk=9, id=8), 9),
    ],
)
def test_a_sender_is_written_as_its_key(thorn: Thorn, sender: Any, written: Any) -> None:
    """`pk`, else `id`, else itself; UUIDs as text."""
    thorn.Event("a.b").send({}, sender=sender)
    assert sent(thorn)[0].sender == written


def test_values_of_models_can_be_written(thorn: Thorn) -> None:
    """What a model's fields hold must not need a conversion by hand."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    thorn.Event("a.b").send({"at": moment, "id": UUID(int=1), "price": Decimal("9.90"), 1: {"s"}})
    assert sent(thorn)[0].data == {
        "at": "2026-01-02T03:04:05+00:00",
        "id": str(UUID(int=1)),
        "price": "9.90",
        "1": ["s"],
    }


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"name": "order..paid"}, "name 'order..paid': the event name has an empty part"),
        ({"name": ""}, "name '': the event name is empty"),
        ({"name": 5}, "name: 5 is no text"),
        ({"timeout": 0}, "timeout: must be seconds, more than 0, not 0"),
        ({"timeout": "5"}, "timeout: must be seconds"),
        ({"retry": "no"}, "retry: must be True or False"),
        ({"retry_max": -1}, "retry_max: must be a whole number"),
        ({"retry_delay": float("nan")}, "retry_delay: must be seconds"),
        ({"request_data": 5}, "request_data: must be a mapping"),
        ({"key": 1.5}, "key: float is no key"),
        ({"tiemout": 5}, "tiemout: is no argument of Event"),
    ],
)
def test_a_definition_names_the_wrong_argument(arguments: dict[str, Any], reason: str) -> None:
    """Where it is written, not when the first event is sent."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the text is compared below
        Event(**{"name": "order.paid", **arguments})
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("data", "more", "reason"),
    [
        ({"x": object()}, {}, "data: cannot be written as JSON: object is no JSON type"),
        ({"x": float("nan")}, {}, "data: cannot be written as JSON"),
        ({"x": "\ud800"}, {}, "data: has characters that are not Unicode text"),
        ({}, {"sender": object()}, "sender: object has neither pk nor id"),
        ({}, {"timeout": -1}, "timeout: must be seconds"),
        ({}, {"headers": {"Authorization": "x"}}, "Authorization may not travel with an event"),
        ({}, {"headers": {"X": "a\nb"}}, "the value of X has a line end"),
        ({}, {"headers": {"X Y": "a"}}, "'X Y' is no header name"),
        ({}, {"on_sucess": print}, "on_sucess: send() takes"),
    ],
)
def test_a_send_names_what_cannot_be_sent(
    thorn: Thorn, data: Any, more: dict[str, Any], reason: str
) -> None:
    """Before it is queued: a dispatcher could only bury it."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the text is compared below
        thorn.Event("a.b").send(data, **more)
    assert reason in str(refused.value)
    assert not sent(thorn)


def test_what_no_dispatcher_could_read_is_not_sent(thorn: Thorn) -> None:
    """Data nested deeper than a dispatcher reads is refused, and so is what refers to itself."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="data: "):
        thorn.Event("a.b").send(deep)
    round_and_round: list[Any] = []
    round_and_round.append(round_and_round)
    with pytest.raises(ValueError, match="data: "):
        thorn.Event("a.b").send(round_and_round)


def test_a_function_as_validator_cannot_travel(thorn: Thorn) -> None:
    """The error says where it has to be named instead."""

    def only_example(url: str) -> None: ...

    event = thorn.Event("a.b", recipient_validators=[only_example])
    with pytest.raises(ValueError, match=r"only_example cannot travel.*!package\.module:name"):
        event.send({})


class Office(Validator):
    """A rule of the user's own: no dispatcher knows its name."""


def test_a_validator_of_ones_own_cannot_travel(thorn: Thorn) -> None:
    """Its name means nothing to a dispatcher, so the program that sends is told."""
    event = thorn.Event("a.b", recipient_validators=[Office()])
    with pytest.raises(ValueError, match="cannot travel to a dispatcher"):
        event.send({})


@pytest.mark.parametrize(
    "validators",
    [
        [ensure_port(443)] * 51,
        [block_cidr_network(*(f"10.{number}.0.0/16" for number in range(256)))] * 5,
        [["ensure_port", ["x"]]],
    ],
)
def test_validators_that_no_dispatcher_would_read_are_not_sent(
    thorn: Thorn, validators: list[Any]
) -> None:
    """They would refuse every request of the event, so the program that sends is told."""
    event = thorn.Event("a.b", recipient_validators=validators)
    with pytest.raises(ValueError, match="no dispatcher would read these"):
        event.send({})
    assert sent(thorn) == []


@pytest.mark.parametrize(
    ("validators", "named"),
    [
        ([ensure_port(8080)], "ensure_port"),
        ([block_internal_ips(allowed=["10.0.0.0/8"])], "allowed_networks"),
        ([], "empty list"),
    ],
)
def test_validators_that_would_loosen_warn_when_defined(validators: Any, named: str) -> None:
    """In Thorn they took the place of the defaults; here they are added to the dispatcher's."""
    with pytest.warns(UserWarning, match="added to the dispatcher's own") as told:
        Event("a.b", recipient_validators=validators)
    assert named in str(told[0].message)
    assert told[0].filename == __file__


def test_validators_that_tighten_do_not_warn() -> None:
    """Fewer ports, or https alone, is what they are for."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Event("a.b", recipient_validators=[ensure_port(443), ensure_protocol("https")])


# --- further subscribers ------------------------------------------------------------------------


def test_subscribers_that_are_functions_are_asked_at_each_send(thorn: Thorn) -> None:
    """With what they take of the name, the sender and the context."""
    asked: list[Any] = []

    def of_context(context: Any) -> list[str]:
        return context["urls"]  # type: ignore[no-any-return]  # a test's own dictionary

    def of_all(event: str, sender: Any = None, **kwargs: Any) -> Iterator[str]:
        asked.append((event, sender, kwargs["context"]["urls"][0]))
        yield "https://all.example/"

    event = thorn.Event("a.b", subscribers=[of_context, of_all])
    for number in (1, 2):
        event.send({}, sender=number, context={"urls": [f"https://{number}.example/"]})
    assert [json.loads(one.headers["thorn-subscribers"]) for one in sent(thorn)] == [
        ["https://1.example/", "https://all.example/"],
        ["https://2.example/", "https://all.example/"],
    ]
    assert asked == [("a.b", 1, "https://1.example/"), ("a.b", 2, "https://2.example/")]


def test_subscriber_objects_travel_without_secrets(thorn: Thorn) -> None:
    """An object of any kind with a `url`; one with a secret is refused."""
    ours = Subscriber(id="ours", event=("*",), url="https://ours.example/", timeout=2.0)
    theirs = SimpleNamespace(url="https://theirs.example/", content_type="application/json")
    thorn.Event("a.b", subscribers=[ours, theirs]).send({})
    first, second = json.loads(sent(thorn)[0].headers["thorn-subscribers"])
    assert first == {
        "id": "ours",
        "event": ["*"],
        "url": "https://ours.example/",
        "timeout": 2.0,
    }
    assert second == {"url": "https://theirs.example/", "content_type": "application/json"}
    theirs.hmac_secret = "s"
    with pytest.raises(ValueError, match="a secret may not travel"):
        thorn.Event("a.b", subscribers=[theirs]).send({})
    with pytest.raises(ValueError, match="int is neither a URL"):
        thorn.Event("a.b", subscribers=[5]).send({})
    with pytest.raises(ValueError, match="!nowhere:f cannot be loaded"):
        thorn.Event("a.b", subscribers=["!nowhere:f"]).send({})


# --- model events -------------------------------------------------------------------------------


class Article:
    state: str

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def get_absolute_url(self) -> str:
        return "https://shop.example/articles/1"


def test_a_model_event_says_where_the_model_is(thorn: Thorn) -> None:
    """Its own `reverse`, else the model's URL; the same is the key."""
    thorn.ModelEvent("article.created").send(Article(), {"x": 1}, sender=USER)
    thorn.ModelEvent("article.created", reverse=lambda article: f"/{article.slug}").send(
        Article(slug="s")
    )
    thorn.ModelEvent("article.created", key="all").send(Article(), key="one")
    first, second, third = sent(thorn)
    assert (first.ref, first.key, first.sender, first.data) == (
        "https://shop.example/articles/1",
        b"https://shop.example/articles/1",
        42,
        {"x": 1},
    )
    assert (second.ref, second.key, second.data) == ("/s", b"/s", {})
    assert third.key == b"one"


def test_a_model_reverser_asks_the_app() -> None:
    """With the values that the instance has at the paths; any framework's `reverse` will do."""

    class Routed(Thorn):
        def reverse(self, view_name: str, *, args: list[Any], kwargs: dict[str, Any]) -> str:
            return f"{view_name} {args} {kwargs}"

    thorn = Routed(dispatcher="memory", set_as_current=False)
    reverse = model_reverser("article:detail", "author.slug", uuid="uuid")
    article = Article(author=SimpleNamespace(slug="g"), uuid=3)
    assert reverse(article, app=thorn) == "article:detail ['g'] {'uuid': 3}"
    thorn.ModelEvent("article.created", reverse=reverse).send(article)
    assert sent(thorn)[0].ref == "article:detail ['g'] {'uuid': 3}"


def test_format_fields_of_a_name_are_filled(thorn: Thorn) -> None:
    """From the instance; what comes of it is checked like any name."""
    event = thorn.ModelEvent("user.{.username}")
    event.send(Article(username="george"))
    assert sent(thorn)[0].name == "user.george"
    with pytest.raises(ValueError, match="white space"):
        event.send(Article(username="george costanza"))
    with pytest.raises(ValueError, match="empty part"):
        ModelEvent("user..{.username}")
    with pytest.raises(ValueError, match="filled from one instance"):
        ModelEvent("user.{name}")


def test_filters_choose_instances() -> None:
    """Keywords and Qs must all hold; a keyword without an operator says what is missing."""
    event = ModelEvent("a.b", Q(x__eq=1) | Q(x__eq=2), y__gt=5)
    assert event.should_dispatch(Article(x=2, y=6))
    assert not event.should_dispatch(Article(x=3, y=6))
    assert not event.should_dispatch(Article(x=2, y=5))
    with pytest.raises(ValueError, match=r"last_name: is no argument.*last_name__eq='jerry'"):
        ModelEvent("a.b", last_name="jerry")
    with pytest.raises(ValueError, match="user__name: ends with no operator"):
        ModelEvent("a.b", user__name="jerry")


def test_a_signal_sends_what_the_instance_gives(thorn: Thorn) -> None:
    """Payload, sender and headers; nothing where the filters say no."""
    event = thorn.ModelEvent("a.b", sender_field="account.user", state__eq="ON")
    article = Article(
        state="ON",
        account=SimpleNamespace(user=USER),
        webhook_payload=lambda: {"title": "t"},
        webhook_headers=lambda: {"X-A": "1"},
    )
    event.on_signal(article)
    article.state = "OFF"
    event.on_signal(article)
    (told,) = sent(thorn)
    assert (told.sender, told.data, told.headers["thorn-http-X-A"]) == (42, {"title": "t"}, "1")


def test_errors_in_a_signal_are_raised_or_logged(
    thorn: Thorn, caplog: pytest.LogCaptureFixture
) -> None:
    """Raised unless the event says otherwise: then the model is saved all the same."""
    with pytest.raises(AttributeError):
        thorn.ModelEvent("a.b", sender_field="missing").on_signal(Article())
    thorn.ModelEvent("a.b", sender_field="missing", propagate_errors=False).on_signal(Article())
    assert "event a.b was not sent" in caplog.text


def test_a_signal_dispatcher_of_ones_own_is_used() -> None:
    """It is made with the event's handler, and connects instead of ours."""
    connected: list[Any] = []

    class Mine:
        def __init__(self, fun: Any) -> None:
            self.fun = fun

        def connect(self, sender: Any) -> None:
            connected.append(sender)

    event = ModelEvent("a.b", signal_dispatcher=Mine)
    assert event.signal_dispatcher.fun == event.on_signal
    event.dispatches_on_create().connect_model(Article)
    assert isinstance(event.signal_dispatcher, Mine)
    assert connected == [Article]


# --- apps and dispatchers -----------------------------------------------------------------------


def test_a_dispatcher_of_thorns_own_kind_is_given_everything() -> None:
    """Whoever wrote one for Thorn keeps it: same method, same arguments."""
    theirs = Recorder()
    event = Event("a.b", dispatcher=theirs, retry=True, subscribers=[1], request_data={"r": 1})
    answer: Any = event.send({"x": 1}, sender=USER, timeout=3.5, on_error=print)
    assert answer == "theirs"
    assert theirs.calls == [
        (
            ("a.b", {"r": 1, "x": 1}, USER),
            {
                "on_success": None,
                "on_error": print,
                "timeout": 3.5,
                "on_timeout": None,
                "retry": True,
                "retry_delay": None,
                "retry_max": None,
                "recipient_validators": None,
                "headers": None,
                "context": None,
                "extra_subscribers": [1],
                "allow_keepalive": True,
            },
        )
    ]
    assert event.subscribers == ["a.b", [1]]
    event.subscribers = [2]
    assert event.subscribers == ["a.b", [2]]


def test_an_event_without_an_app_uses_the_current_one(thorn: Thorn) -> None:
    """Whether the app was made before or after the definition."""
    event = Event("a.b")
    assert event.app is thorn
    assert current_app() is thorn
    later = Thorn(dispatcher="memory")
    assert event.app is later
    assert thorn.Event("a.b").app is thorn
    assert thorn.Event.app is thorn
    unbound: Any = Event.app
    assert unbound is None
    assert event.dispatcher is later.dispatcher


def test_events_can_be_pickled(thorn: Thorn) -> None:
    """A task queue may carry them; the app is the one that is current where they arrive."""
    event = thorn.ModelEvent("a.b", Q(x__eq=1), timeout=3, y__eq=2, sender_field="user")
    again = pickle.loads(pickle.dumps(event))
    assert again.app is thorn
    assert (again.name, again.timeout, again.sender_field) == ("a.b", 3, "user")
    assert again.should_dispatch(Article(x=1, y=2))
    assert not again.should_dispatch(Article(x=1, y=3))


def test_dispatchers_are_named(thorn: Thorn) -> None:
    """For the app, for one event, and never by a slip of the pen."""
    assert thorn.Event("a.b", dispatcher="memory").dispatcher is thorn.dispatcher
    nowhere = thorn.Event("a.b", dispatcher="disabled")
    assert nowhere.send({}).wait().done
    assert not sent(thorn)
    with pytest.raises(ValueError, match="'kafak' is none of kafka, inline, disabled, memory"):
        _ = thorn.Event("a.b", dispatcher="kafak").dispatcher


def test_arguments_beat_the_environment_and_name_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mistake in an argument must not be told as one in a variable nobody set."""
    monkeypatch.setenv("THORN_ON_FULL", "drop")
    monkeypatch.setenv("THORN_FLUSH_TIMEOUT", "3")
    settings = Thorn(on_full="block", bootstrap_servers="k:1", set_as_current=False).settings
    assert (settings.on_full, settings.flush_timeout) == ("block", 3)
    assert settings.kafka["bootstrap.servers"] == "k:1"
    with pytest.raises(ConfigurationError, match=r"Thorn\(on_full=\.\.\.\): must be one of"):
        _ = Thorn(on_full="wait", set_as_current=False).settings
    with pytest.raises(ConfigurationError, match=r"Thorn\(on_ful=\.\.\.\): is no setting"):
        _ = Thorn(on_ful="wait", set_as_current=False).settings


# --- buffers ------------------------------------------------------------------------------------


def test_a_buffer_holds_until_its_block_ends(thorn: Thorn) -> None:
    """In order; also when the block ends by an exception, since the events have happened."""
    event = thorn.Event("a.b")

    def fail() -> None:
        with thorn.buffer_events():
            event.send(2)
            raise KeyError

    with thorn.buffer_events() as buffer:
        event.send(1)
        assert len(buffer) == 1
        assert not sent(thorn)
    with pytest.raises(KeyError):
        fail()
    assert [one.data for one in sent(thorn)] == [1, 2]


def test_a_buffer_is_flushed_every_n(thorn: Thorn) -> None:
    """So that a long job does not hold all of its events in memory."""
    event = thorn.Event("a.b")
    counts = []
    with thorn.buffer_events(flush_freq=3):
        for number in range(7):
            event.send(number)
            counts.append(len(sent(thorn)))
    assert counts == [0, 0, 3, 3, 3, 6, 6]
    assert len(sent(thorn)) == 7


def test_a_buffer_is_flushed_after_t(thorn: Thorn) -> None:
    """The first event waits so long, though none comes after it."""
    with thorn.buffer_events(flush_timeout=0.05):
        assert thorn.Event("a.b").send(1).wait(30).done
        assert len(sent(thorn)) == 1


def test_a_buffer_is_one_threads(thorn: Thorn) -> None:
    """What another thread sends meanwhile goes out at once."""
    event = thorn.Event("a.b")
    with thorn.buffer_events():
        event.send("here")
        other = threading.Thread(target=event.send, args=("there",))
        other.start()
        other.join()
        assert [one.data for one in sent(thorn)] == ["there"]


def test_a_buffer_can_be_switched_on_and_off(thorn: Thorn) -> None:
    """Thorn's way for frameworks that have a begin and an end, and no block."""
    event = thorn.Event("a.b")
    thorn.enable_buffer()
    event.send(1)
    assert not sent(thorn)
    assert thorn.flush_buffer() == 1
    event.send(2)
    thorn.disable_buffer()
    event.send(3)
    assert [one.data for one in sent(thorn)] == [1, 2, 3]


def test_what_is_held_is_flushed_at_the_end(thorn: Thorn) -> None:
    """A forgotten flush loses nothing."""
    with thorn:
        thorn.enable_buffer()
        thorn.Event("a.b").send(1)
    assert len(sent(thorn)) == 1
    thorn.disable_buffer()


# --- handles ------------------------------------------------------------------------------------


def test_a_handle_tells_once() -> None:
    """What was decided first stays; who waits in vain is told that it may still be sent."""
    handle = Handle("a.b", "id")
    with pytest.raises(EventNotSent, match=r"a\.b is not acknowledged after 0\.01 s"):
        handle.wait(0.01)
    handle.settle("Kafka is away")
    handle.settle()
    with pytest.raises(EventNotSent, match=r"a\.b was not sent: Kafka is away"):
        handle.wait()
    assert "Kafka is away" in repr(handle)


async def _awaited(handle: Handle) -> Handle:
    return await handle


def test_a_handle_can_be_awaited() -> None:
    """Settled by another thread while a coroutine waits, or before."""
    import asyncio  # noqa: PLC0415 - for this test alone

    handle = Handle("a.b", "id")
    threading.Timer(0.01, handle.settle).start()
    assert asyncio.run(_awaited(handle)) is handle
    assert asyncio.run(_awaited(handle)) is handle
