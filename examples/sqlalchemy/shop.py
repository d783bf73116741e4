"""Articles in SQLAlchemy: what a session commits is told, what it rolls back is not."""

from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from thorn_stream import ModelEvent, Thorn, webhook_model

thorn = Thorn()


class Base(DeclarativeBase):
    """All tables."""


@webhook_model
class Article(Base):
    """An article; its `webhooks` are the events it sends."""

    __tablename__ = "article"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    state: Mapped[str] = mapped_column(default="DRAFT")

    class webhooks:
        on_create = ModelEvent("article.created")
        on_publish = ModelEvent(
            "article.published", state__now_eq="PUBLISHED"
        ).dispatches_on_change()

        def reverse(self, article: "Article") -> str:
            return f"https://shop.example/articles/{article.id}"

        def payload(self, article: "Article") -> dict[str, Any]:
            return {"title": article.title, "state": article.state}


def main() -> None:
    """Write an article, publish it; and think again about another one."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with thorn, Session(engine) as session:
        article = Article(title="SQLAlchemy")
        session.add(article)
        session.commit()
        article.state = "PUBLISHED"
        session.commit()
        session.add(Article(title="Never"))
        session.flush()
        session.rollback()
    print("sent article.created and article.published")


if __name__ == "__main__":
    main()
