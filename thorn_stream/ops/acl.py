"""Who may do what in Kafka: the rules that dispatchers and producers need, as data and commands."""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from thorn_stream.config import Settings
from thorn_stream.ops.ordering import group_of
from thorn_stream.ops.topics import KINDS

__all__ = ["Rule", "as_json", "rules", "script"]

_LITERAL: Final = re.compile(r"(?:[A-Za-z0-9_-]|\\\.|\[\.\])(?![?*+{])")


class Rule(NamedTuple):
    """`who` is `dispatcher` or `producer`, `resource` `topic` or `group`, operations Kafka's own.

    `prefixed`: the rule holds for every name that begins like this.
    """

    who: str
    resource: str
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False


def rules(settings: Settings) -> list[Rule]:
    """Those of dispatchers, then those of producers; of patterns, the part that is fixed."""
    found = [
        Rule("dispatcher", "topic", name, ("Read", "DescribeConfigs"), prefixed)
        for name, prefixed in _inputs(settings)
    ]
    own = ("Read", "Write", "Create", "Describe", "DescribeConfigs")
    for kind in KINDS:
        prefix = kind.prefix(settings)
        names = [prefix] if prefix else kind.topics(settings)
        found += [Rule("dispatcher", "topic", name, own, bool(prefix)) for name in names]
    groups = (settings.group, f"{settings.group}.retry", f"{settings.group}.parked")
    found += [Rule("dispatcher", "group", group, ("Read", "Describe")) for group in groups]
    ordered = ("Read", "Describe", "Delete")  # those of subscribers that are gone are deleted
    found.append(Rule("dispatcher", "group", group_of(settings, ""), ordered, prefixed=True))
    found += [
        Rule("producer", "topic", name, ("Write", "Describe"), prefixed)
        for name, prefixed in _inputs(settings)
    ]
    found.append(Rule("producer", "topic", settings.results_topic, ("Read", "Describe")))
    return found


def _inputs(settings: Settings) -> Iterator[tuple[str, bool]]:
    for topic in settings.topics:
        if not topic.startswith("^"):
            yield topic, False
        elif prefix := _fixed(topic):
            yield prefix, True


def _fixed(pattern: str) -> str:
    """The beginning that every match of a `^regex` has; empty where there is none."""
    if "|" in pattern:
        return ""
    at, kept = 1, []
    while found := _LITERAL.match(pattern, at):
        kept.append("." if found[0] in {r"\.", "[.]"} else found[0])
        at = found.end()
    return "".join(kept)


def as_json(found: list[Rule]) -> list[dict[str, Any]]:
    return [
        {
            "who": rule.who,
            "resource": rule.resource,
            "name": rule.name,
            "pattern": "prefixed" if rule.prefixed else "literal",
            "operations": list(rule.operations),
        }
        for rule in found
    ]


def script(settings: Settings) -> str:
    """The rules as a shell script around `kafka-acls.sh`; two principals are left to fill in."""
    found = rules(settings)
    own = [rule for rule in found if rule.who == "dispatcher" and "Create" in rule.operations]
    names = ", ".join(f"{rule.name}*" if rule.prefixed else rule.name for rule in own)
    unfixed = [t for t in settings.topics if t.startswith("^") and not _fixed(t)]
    return "\n".join(
        [
            f"SERVERS={settings.kafka['bootstrap.servers']}",
            "DISPATCHER=User:dispatcher  # who runs `thorn-stream run`",
            "PRODUCER=User:producer      # who publishes events",
            "",
            *(_command(rule) for rule in found if rule.who == "dispatcher"),
            *(
                f"# {pattern}: add a rule like the first for each topic that it is to match"
                for pattern in unfixed
            ),
            "",
            f"# Whoever writes to {names} controls the dispatchers:",
            "# whom they call, with what, and when. Nobody else may have Write there.",
            *(_command(rule) for rule in found if rule.who == "producer" and _writes(rule)),
            "",
            "# Only for programs that wait for callbacks; they see the results of all receivers.",
            *(_command(rule) for rule in found if rule.who == "producer" and not _writes(rule)),
        ]
    )


def _writes(rule: Rule) -> bool:
    return "Write" in rule.operations


def _command(rule: Rule) -> str:
    words = [
        'kafka-acls.sh --bootstrap-server "$SERVERS" --add',
        f'--allow-principal "${rule.who.upper()}"',
        *(f"--operation {operation}" for operation in rule.operations),
        f"--{rule.resource} {rule.name}",
    ]
    if rule.prefixed:
        words.append("--resource-pattern-type prefixed")
    return " ".join(words)
