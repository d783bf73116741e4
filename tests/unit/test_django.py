"""Django's models: what is sent when they change, and that nothing is sent that did not happen."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import transaction
from django.test import Client, override_settings

from tests.support.shop import started
from thorn_stream.events import ModelEvent, Q, Thorn
from thorn_stream.events.memory import Memory
from thorn_stream.events.state import set_current_app
from thorn_stream.validators import block_internal_ips, ensure_port

started()

from django.contrib.auth.models import User  # noqa: E402 - after Django was set up

from tests.support.shop.models import Article, Tag  # noqa: E402 - after Django was set up
from thorn_stream.django import signals, webhook_model  # noqa: E402 - after Django was set up
from thorn_stream.django.utils import deserialize_model, serialize_model  # noqa: E402 - the same


@pytest.fixture
def memory() -> Iterator[Memory]:
    """An app that keeps what is sent; the tables are emptied afterwards."""
    thorn = Thorn(dispatcher="memory")
    kept: Memory = thorn.dispatcher
    yield kept
    Article.objects.all().delete()
    Tag.objects.all().delete()
    User.objects.all().delete()
    set_current_app(None)


def names(memory: Memory) -> list[str]:
    return [event.name for event in memory.sent]


def test_creating_changing_and_deleting_send_events(memory: Memory) -> None:
    """Each with the article's address, author and payload."""
    author = User.objects.create_user("elaine")
    article = Article.objects.create(title="one", author=author)
    article.title = "two"
    article.save()
    article.delete()
    assert names(memory) == ["article.created", "article.changed", "article.removed"]
    created, changed, _ = memory.sent
    assert created.envelope == {
        "event": "article.created",
        "ref": f"/articles/{article.uuid}/",
        "sender": author.pk,
        "data": {"title": "one", "state": "DRAFT"},
    }
    assert created.key == f"/articles/{article.uuid}/".encode()
    assert changed.headers["thorn-http-X-Title"] == "two"


def test_a_transition_is_seen_once(memory: Memory) -> None:
    """When the state becomes what it was not before; a further save is none."""
    article = Article.objects.create(title="one", state="DRAFT")
    memory.clear()
    article.state = "PUBLISHED"
    article.save()
    article.save()
    assert names(memory) == ["article.changed", "article.published.one", "article.changed"]


def test_nothing_is_sent_of_what_is_rolled_back(memory: Memory) -> None:
    """Neither of a transaction, nor of a savepoint in one that is committed."""

    def fail() -> None:
        with transaction.atomic():
            Article.objects.create(title="never")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with transaction.atomic():
        Article.objects.create(title="kept")
        with pytest.raises(KeyError):
            fail()
        assert memory.sent == []
    assert [event.data["title"] for event in memory.sent] == ["kept"]


def test_each_save_of_a_transaction_has_its_own_payload(memory: Memory) -> None:
    """Made when the signal comes, not when it is published."""
    with transaction.atomic():
        article = Article.objects.create(title="one")
        for title in ("two", "three"):
            article.title = title
            article.save()
    assert [event.data["title"] for event in memory.sent] == ["one", "two", "three"]


def test_an_event_may_leave_the_transaction_alone(memory: Memory) -> None:
    """`signal_honors_transaction=False`, as Thorn's default was: published by the signal."""
    event = ModelEvent("a.b", signal_honors_transaction=False).dispatches_on_create()
    dispatcher = event.signal_dispatcher
    with transaction.atomic():
        dispatcher(Article(title="x"), created=True, using="default")
        assert names(memory) == ["a.b"]


def test_the_admin_sends_events(memory: Memory) -> None:
    """The way most articles are written."""
    admin = User.objects.create_superuser("admin", password="admin")
    client = Client()
    assert client.login(username="admin", password="admin")
    answer = client.post(
        "/admin/shop/article/add/",
        {"title": "by hand", "state": "DRAFT", "uuid": "0" * 32, "author": str(admin.pk)},
    )
    assert answer.status_code == 302, answer.content
    assert names(memory) == ["article.created"]
    assert memory.sent[0].data == {"title": "by hand", "state": "DRAFT"}


def test_tags_send_events_from_both_sides(memory: Memory) -> None:
    """Adding an article to a tag changes the article as well."""
    article = Article.objects.create(title="one")
    tag, other = (Tag.objects.create(name=name) for name in "ab")
    memory.clear()
    article.tags.add(tag)
    other.articles.add(article)
    article.tags.remove(tag)
    article.tags.clear()
    assert names(memory) == [
        "article.tagged",
        "article.tagged",
        "article.untagged",
        "article.cleared",
    ]
    assert {event.data["title"] for event in memory.sent} == {"one"}


def test_a_tag_that_is_cleared_changes_each_article_that_had_it(memory: Memory) -> None:
    """Which these are is known before alone; who never had it is told nothing."""
    first, second, never = (Article.objects.create(title=name) for name in ("one", "two", "no"))
    tag = Tag.objects.create(name="a")
    tag.articles.add(first, second)
    never.tags.add(Tag.objects.create(name="b"))
    memory.clear()
    tag.articles.clear()
    tag.articles.clear()
    assert names(memory) == ["article.cleared", "article.cleared"]
    assert sorted(event.data["title"] for event in memory.sent) == ["one", "two"]


def test_a_model_may_keep_to_itself(memory: Memory) -> None:
    """What `delivers` says no to is not sent; by hand it is."""
    article = Article.objects.create(title="secret")
    assert names(memory) == []
    Article.webhooks.on_custom.send(article, data=article.webhook_payload())
    assert names(memory) == ["article.custom"]


def test_fixtures_send_nothing(memory: Memory) -> None:
    """Loading data for a test or a new machine is no news to anybody."""
    for dispatcher in (signals.dispatch_on_create, signals.dispatch_on_change):
        told: list[Any] = []
        dispatcher(lambda *args, told=told, **_: told.append(args))(
            Article(title="x"), raw=True, created=dispatcher is signals.dispatch_on_create
        )
        assert not told
    assert names(memory) == []


def test_bulk_statements_send_nothing(memory: Memory) -> None:
    """Django sends no signals for them; the docs say so."""
    Article.objects.bulk_create([Article(title="one"), Article(title="two")])
    Article.objects.update(title="three")
    assert names(memory) == []


def test_the_decorator_takes_events_as_arguments_too() -> None:
    """Thorn's first way; what an event says itself beats what is said for all."""

    class Model:
        class _meta:  # noqa: N801 - Django's name
            app_label, model_name = "shop", "model"

    def own(instance: Any) -> str:
        return "own"

    on_create, on_change = ModelEvent("x.create", reverse=own), ModelEvent("x.change")
    decorated: Any = webhook_model(
        on_create=on_create,
        on_change=on_change,
        on_custom=ModelEvent("x.custom"),
        reverse=lambda instance: "all",
        sender_field="user",
    )(Model)
    assert decorated.webhook_events["on_change"] is decorated.webhook_events.events["on_change"]
    assert decorated.webhooks.on_change is on_change
    assert (on_create.get_absolute_url(None), on_change.get_absolute_url(None)) == ("own", "all")
    assert on_create.instance_sender(SimpleNamespace(user=5)) == 5
    assert isinstance(on_create.signal_dispatcher, signals.dispatch_on_create)
    assert isinstance(on_change.signal_dispatcher, signals.dispatch_on_change)
    assert decorated.webhooks.on_custom.signal_dispatcher is None
    with pytest.raises(ValueError, match=r"webhook_model\(on_x=\.\.\.\): is neither an event"):
        webhook_model(on_x=5)(Model)


def test_what_is_no_model_is_refused() -> None:
    """As in Thorn: TypeErrors, where the decorator stands."""
    with pytest.raises(TypeError, match=r"webhook_model\('shop'\): is no model"):
        webhook_model("shop")  # type: ignore[call-overload]  # what is tested
    with pytest.raises(TypeError, match=r"webhooks is no class, but 42"):
        webhook_model(type("Model", (), {"webhooks": 42}))


def test_the_webhooks_of_a_model_are_a_mapping() -> None:
    """Its events by name, to be looked up, replaced and taken away."""
    event, other = ModelEvent("a.b"), ModelEvent("a.c")
    decorated: Any = webhook_model(on_custom=event)(type("Model", (), {}))
    webhooks = decorated.webhooks
    assert webhooks["on_custom"] is event
    webhooks["on_other"] = other
    assert list(webhooks) == ["on_custom", "on_other"]
    del webhooks["on_custom"]
    with pytest.raises(KeyError):
        webhooks["on_custom"]


def test_a_payload_of_the_models_own_is_asked_for() -> None:
    """`webhook_payload` and `webhook_headers` of a model; what its webhooks say comes first."""

    class Plain:
        def webhook_payload(self) -> dict[str, str]:
            return {"from": "model"}

        def webhook_headers(self) -> dict[str, str]:
            return {"X-From": "model"}

    class Said(Plain):
        class webhooks:  # noqa: N801 - Thorn's name
            def payload(self, instance: object) -> dict[str, str]:
                return {"from": type(instance).__name__}

    class Child(webhook_model(type("Bare", (), {}))):  # type: ignore[misc]  # made here
        pass

    event = ModelEvent("a.b")
    plain, said = webhook_model(Plain)(), webhook_model(Said)()
    assert event.instance_data(plain) == {"from": "model"}
    assert event.instance_headers(plain) == {"X-From": "model"}
    assert event.instance_data(said) == {"from": "Said"}
    assert event.instance_headers(said) == {"X-From": "model"}
    assert event.instance_data(Child()) == {}
    assert event.instance_headers(Child()) is None
    assert event.instance_data(object()) is None


def test_settings_may_be_looked_at_where_thorn_has_them() -> None:
    """`app.config` is Django's settings."""
    assert Thorn(set_as_current=False).config.INSTALLED_APPS == settings.INSTALLED_APPS


def test_whether_the_commit_is_waited_for_can_be_asked() -> None:
    """The event's own word, else the setting's."""
    thorn = Thorn(set_as_current=False, signal_honors_transaction=False)
    assert not thorn.ModelEvent("a.b").signal_honors_transaction
    event = thorn.ModelEvent("a.b", signal_honors_transaction=True)
    assert event.signal_honors_transaction
    event.signal_honors_transaction = None
    assert not event.signal_honors_transaction


def test_transitions_cost_a_query_only_where_they_are_asked_for() -> None:
    """An event without a `now_` filter reads no version before."""
    plain = ModelEvent("a.b", state__eq="X").dispatches_on_change()
    asking = ModelEvent("a.b", Q(x__eq=1) | Q(state__now_eq="X")).dispatches_on_change()
    assert not plain.signal_dispatcher.use_transitions
    assert asking.signal_dispatcher.use_transitions


def test_models_are_named_in_json_and_found_again() -> None:
    """So that a context may travel through a task queue."""
    assert serialize_model(Article) == {"app_label": "shop", "model_name": "article"}
    assert deserialize_model(serialize_model(Article())) is Article
    assert deserialize_model(Article) is Article


def test_settings_of_django_count_below_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`THORN_X` in the settings module is that variable, unless the environment has it."""
    monkeypatch.setenv("THORN_FLUSH_TIMEOUT", "7")
    with override_settings(
        THORN_ON_FULL="drop",
        THORN_FLUSH_TIMEOUT=5,
        THORN_SIGNAL_HONORS_TRANSACTION=False,
        THORN_KAFKA={"bootstrap_servers": "k:1"},
        THORN_TOPICS=["shop"],
    ):
        thorn = Thorn(set_as_current=False)
        settings = thorn.settings
        assert thorn.broker_chosen
    assert (settings.on_full, settings.flush_timeout) == ("drop", 7)
    assert not settings.signal_honors_transaction
    assert settings.kafka["bootstrap.servers"] == "k:1"
    assert settings.topics == ("shop",)


def test_settings_that_thorn_had_are_read_or_named(caplog: pytest.LogCaptureFixture) -> None:
    """A settings module of a Thorn shop: validators are objects, subscribers a map."""
    with override_settings(
        THORN_CODECS={"application/x": print},
        THORN_EVENT_TIMEOUT=4.5,
        THORN_RECIPIENT_VALIDATORS=[block_internal_ips(), ensure_port(443)],
        THORN_SUBSCRIBERS={"article.*": ["https://a.example/", {"url": "https://b.example/"}]},
    ):
        settings = Thorn(set_as_current=False).settings
    assert settings.event_timeout == 4.5
    assert [name for name, _ in settings.recipient_validators] == [
        "block_internal_ips",
        "ensure_port",
    ]
    assert [one.url for one in settings.subscribers] == ["https://a.example/", "https://b.example/"]
    assert "THORN_CODECS: is no setting and is ignored" in caplog.text


def test_check_names_wrong_settings() -> None:
    """`manage.py check` is where a Django project looks first."""
    set_current_app(None)
    with override_settings(THORN_ON_FULL="wait"), pytest.raises(SystemCheckError) as told:
        call_command("check")
    set_current_app(None)
    assert "THORN_ON_FULL: must be one of" in str(told.value)
