"""Every mistake at once: of the settings, of subscriber files, of `kafka:`; and what is cut."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tests.support.reading import until
from thorn_stream.adapters.metrics import Metrics
from thorn_stream.config import load_settings
from thorn_stream.core.directory import Directory
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.ops.ceilings import cut
from thorn_stream.ops.checking import examine, load_examined
from thorn_stream.ops.guarding import guard_for
from thorn_stream.ops.reloading import Reloading

BAD = "subscribers: [{id: a, event: order.*, url: 'https://a.example.com/', retries: 3}]\n"
INNER = "subscribers: [{id: a, event: order.*, url: 'http://10.0.0.1/'}]\n"
GREEDY = """
subscribers:
  - id: greedy
    event: order.*
    url: https://a.example.com/
    timeout: 60
    retry_max: 21
    retry_delay: 7201
    retry_schedule: [{waits}]
  - {{id: modest, event: order.*, url: 'https://b.example.com/', timeout: {timeout}}}
"""


def write(folder: Path, settings: str, subscribers: str) -> Path:
    """Settings that read one subscriber file."""
    (folder / "s.yaml").write_text(subscribers)
    config = folder / "thorn.yaml"
    config.write_text(f"subscriber_files: [{folder}/s.yaml]\n{settings}")
    return config


def mistakes(folder: Path, settings: str, subscribers: str) -> list[str]:
    """The lines told, without the folder."""
    with pytest.raises(ConfigurationError) as caught:
        examine(load_examined(write(folder, settings, subscribers), {}))
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_settings_and_subscriber_files_are_told_together(tmp_path: Path) -> None:
    """A mistake in each: the settings' in the order of their lines, then those of the file."""
    told = mistakes(tmp_path, "window: 0\nretry_max: many\n", BAD)
    assert [line.split(" ")[0] for line in told] == [
        "thorn.yaml:2:",
        "thorn.yaml:3:",
        "s.yaml:1:",
    ]
    assert "retries" in told[2]


def test_kafka_and_subscriber_files_are_told_together(tmp_path: Path) -> None:
    """What librdkafka does not take does not hide a subscriber's mistake, nor the other way."""
    told = mistakes(tmp_path, "kafka: {no.such.key: 1}\n", BAD)
    assert len(told) == 2
    assert "no.such.key" in told[0]
    assert "retries" in told[1]
    told = mistakes(tmp_path, "kafka: {no.such.key: 1}\nwindow: 0\n", BAD)
    assert len(told) == 3
    for name, line in zip(("window", "no.such.key", "retries"), told, strict=True):
        assert name in line


def test_settings_of_a_later_version_are_told_with_the_rest(tmp_path: Path) -> None:
    """What is refused since it does not exist yet is one more line."""
    told = mistakes(tmp_path, "tracing: {enabled: true}\n", BAD)
    assert len(told) == 2
    assert any("tracing.enabled: not available" in line for line in told)


def test_what_would_only_follow_from_a_mistake_is_not_told(tmp_path: Path) -> None:
    """With ill-formed validators no URL is judged; without a list of files none is looked for."""
    told = mistakes(tmp_path, "recipient_validators: [[ensure_prot, [443]]]\n", INNER)
    assert len(told) == 1
    assert "ensure_prot is no validator" in told[0]
    told = mistakes(tmp_path, "window: 0\n", INNER)
    assert len(told) == 2
    assert "block_internal_ips" in told[1]
    (tmp_path / "thorn.yaml").write_text("subscriber_files: 5\n")
    with pytest.raises(ConfigurationError) as caught:
        load_examined(tmp_path / "thorn.yaml", {})
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_beyond_a_ceiling_is_named(tmp_path: Path) -> None:
    """Subscriber, value and ceiling, a line each; what is within them is no line."""
    text = GREEDY.format(waits=", ".join("1" * 21), timeout=30)
    loaded = load_settings(write(tmp_path, "", text), {})
    told = cut(loaded.settings, examine(loaded))
    assert [line.partition(":")[0] for line in told] == ["subscriber greedy"] * 4
    for line, (value, most, name) in zip(
        told,
        (
            ("timeout 60", "30", "event_timeout_max"),
            ("retry_max 21", "20", "retry_max_max"),
            ("retry_delay 7201", "7200", "retry_delay_max"),
            ("21 waits", "20", "retry_max_max"),
        ),
        strict=True,
    ):
        assert value in line
        assert most in line
        assert name in line


def test_what_is_cut_is_logged_at_start_and_when_it_is_new(tmp_path: Path) -> None:
    """Each line once: at the start, and after a reload those that were not told before."""
    config = write(tmp_path, "", GREEDY.format(waits="1", timeout=30))

    async def test(log: Sequence[Mapping[str, Any]]) -> None:
        loaded = load_settings(config, {})
        reloading = Reloading(
            loaded,
            guard_for(loaded.settings),
            lambda _: None,
            Metrics(subscriber_limit=1),
            structlog.get_logger(),
        )
        used: list[Directory] = []
        reloading.start(used.append, lambda _: None)
        try:
            assert len(beyond(log)) == 3
            (tmp_path / "s.yaml").write_text(GREEDY.format(waits="1", timeout=31))
            await until(lambda: len(beyond(log)) == 4)
        finally:
            reloading.stop()
        assert used

    with capture_logs() as log:
        asyncio.run(test(log))
    assert "subscriber modest: timeout 31" in beyond(log)[3]


def beyond(log: Sequence[Mapping[str, Any]]) -> list[str]:
    return [line["error"] for line in log if line["event"] == "beyond a ceiling"]
