"""SQLAlchemy's classes: what is sent when a session commits, and nothing of what it rolls back."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Table, create_engine, delete, insert, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import StaticPool

from thorn_stream.events import Thorn
from thorn_stream.events.memory import Memory
from thorn_stream.events.state import set_current_app
from thorn_stream.sqlalchemy import ModelEvent, StatementWarning, webhook_model


class Base(DeclarativeBase):
    pass


tagged = Table(
    "tagged",
    Base.metadata,
    Column("post", ForeignKey("post.id"), primary_key=True),
    Column("tag", ForeignKey("tag.id"), primary_key=True),
)


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)


@webhook_model
class Post(Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    state: Mapped[str] = mapped_column(default="DRAFT")
    author: Mapped[int | None]
    tags: Mapped[list[Tag]] = relationship(secondary=tagged)

    class webhooks:  # noqa: N801 - Thorn's name
        on_create = ModelEvent("post.created")
        on_change = ModelEvent("post.changed")
        on_delete = ModelEvent("post.removed")
        on_publish = ModelEvent("post.published", state__now_eq="PUBLISHED").dispatches_on_change()
        on_tag = ModelEvent("post.tagged").dispatches_on_m2m_add("tags")
        sender_field = "author"

        def reverse(self, post: "Post") -> str:
            return f"/posts/{post.id}"

        def payload(self, post: "Post") -> dict[str, Any]:
            return {"title": post.title, "state": post.state}


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def memory() -> Iterator[Memory]:
    """An app that keeps what is sent."""
    yield Thorn(dispatcher="memory").dispatcher
    set_current_app(None)


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    Base.metadata.create_all(made)
    yield made
    made.dispose()


def told(memory: Memory) -> list[str]:
    return [f"{event.name} {event.data['title']}" for event in memory.sent]


def test_a_commit_sends_what_was_changed(memory: Memory, engine: Engine) -> None:
    """Inserted, updated and deleted; not before the commit, and with the row's key."""
    with Session(engine) as session:
        post = Post(title="one", author=42)
        session.add(post)
        session.flush()
        assert memory.sent == []
        session.commit()
        assert memory.sent[0].envelope == {
            "event": "post.created",
            "ref": "/posts/1",
            "sender": 42,
            "data": {"title": "one", "state": "DRAFT"},
        }
        post.title = "two"
        session.commit()
        session.delete(post)
        session.commit()
        session.commit()
    assert told(memory) == ["post.created one", "post.changed two", "post.removed two"]


def test_nothing_is_sent_of_what_is_rolled_back(memory: Memory, engine: Engine) -> None:
    """Of a session, of a savepoint, and of one in a savepoint that is kept."""
    with Session(engine) as session:
        session.add(Post(title="never"))
        session.flush()
        session.rollback()
        session.commit()
        session.add(Post(title="outer"))
        with session.begin_nested():
            session.add(Post(title="kept"))
            inner = session.begin_nested()
            session.add(Post(title="dropped"))
            session.flush()
            inner.rollback()
        outermost = session.begin_nested()
        with session.begin_nested():
            session.add(Post(title="dropped with its parent"))
        outermost.rollback()
        assert memory.sent == []
        session.commit()
    with Session(engine) as session:
        session.add(Post(title="closed"))
        session.flush()
    assert told(memory) == ["post.created outer", "post.created kept"]


def test_a_transition_is_seen_though_nothing_was_loaded(memory: Memory, engine: Engine) -> None:
    """After a commit all is expired; the value before is loaded before it is replaced."""
    with Session(engine) as session:
        post = Post(title="one")
        session.add(post)
        session.commit()
        for state in ("PUBLISHED", "PUBLISHED", "DRAFT", "PUBLISHED"):
            post.state = state
            session.commit()
    assert [event.name for event in memory.sent] == [
        "post.created",
        "post.changed",
        "post.published",
        "post.changed",
        "post.changed",
        "post.published",
    ]


def test_each_flush_has_its_own_payload(memory: Memory, engine: Engine) -> None:
    """As it was then, though the commit comes later."""
    with Session(engine) as session:
        post = Post(title="one")
        session.add(post)
        session.flush()
        post.title = "two"
        session.commit()
    assert told(memory) == ["post.created one", "post.changed two"]


def test_a_collection_sends_events(memory: Memory, engine: Engine) -> None:
    """Adding to it is no change of the post's own row."""
    with Session(engine) as session:
        post = Post(title="one")
        session.add(post)
        session.commit()
        memory.clear()
        post.tags.append(Tag())
        assert memory.sent == []
        session.commit()
    assert told(memory) == ["post.tagged one"]


def test_async_sessions_send_too(memory: Memory) -> None:
    """They wrap a session; commit and rollback mean the same."""

    async def work() -> None:
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            session.add(Post(title="never"))
            await session.flush()
            await session.rollback()
            post = Post(title="one")
            session.add(post)
            await session.commit()
            await session.refresh(post)
            post.state = "PUBLISHED"
            await session.commit()
        await engine.dispose()

    asyncio.run(work())
    assert told(memory) == ["post.created one", "post.changed one", "post.published one"]


def test_statements_warn(memory: Memory, engine: Engine) -> None:
    """They name no instances, so there is nothing to send; of other classes nobody is told."""
    with Session(engine) as session:
        session.execute(insert(Plain), [{"id": 1}])
        for statement in (
            insert(Post).values(title="x"),
            update(Post).values(title="y"),
            delete(Post),
        ):
            with pytest.warns(StatementWarning, match="of Post by a statement: no events"):
                session.execute(statement)
        session.commit()
    assert memory.sent == []
