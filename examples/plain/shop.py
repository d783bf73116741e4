"""A program without a framework that tells of its articles."""

from thorn_stream import Thorn

thorn = Thorn()  # config/thorn.yaml, THORN_ variables, or a `thorn-stream broker` in this directory

article_created = thorn.Event("article.created", timeout=5)


def main() -> None:
    """Publish one event, and wait until Kafka has it."""
    with thorn:
        handle = article_created.send({"title": "Plain"}, sender=42, key="article-1")
        handle.wait()
        print(f"sent article.created {handle.id}")


if __name__ == "__main__":
    main()
