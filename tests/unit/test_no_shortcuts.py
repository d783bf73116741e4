"""What no code of ours may ask: a source of truth that is not the table, or a second look-up."""

import ast
from collections.abc import Iterator
from pathlib import Path

import thorn_stream

SOURCES = Path(thorn_stream.__file__).parent
FLAGS = {
    *("is_private", "is_global", "is_loopback", "is_link_local", "is_reserved", "is_multicast"),
    *("is_site_local", "is_unspecified"),
}
LOOK_UPS = {"getaddrinfo", "gethostbyname", "gethostbyname_ex", "open_connection"}


def named(source: Path) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Attribute):
            yield node.attr, node
        elif isinstance(node, ast.Name):
            yield node.id, node


def users(names: set[str]) -> set[str]:
    return {
        str(source.relative_to(SOURCES))
        for source in SOURCES.rglob("*.py")
        for name, _ in named(source)
        if name in names
    }


def test_nobody_asks_ipaddress_what_is_private() -> None:
    """Its flags change between Python versions and miss networks: only the table is asked."""
    assert users(FLAGS) == set()


def test_names_are_looked_up_in_one_place() -> None:
    """The resolver alone asks the system; a connection is made from a socket that is connected."""
    assert users(LOOK_UPS) == {"adapters/resolver.py"}
    dialling = ast.parse((SOURCES / "adapters/http/dialling.py").read_text())
    calls = [
        {keyword.arg for keyword in node.keywords}
        for node in ast.walk(dialling)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "create_connection"
    ]
    assert len(calls) == 1
    assert "sock" in calls[0]


def test_certificates_are_never_left_unchecked() -> None:
    """No context without verification, no host name check switched off, anywhere."""
    assert users({"CERT_NONE", "CERT_OPTIONAL", "_create_unverified_context"}) == set()
    assert users({"check_hostname"}) == set()
