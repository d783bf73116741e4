"""Certificates that were replaced in their files: others, and the old ones are let go."""

import gc
import weakref
from pathlib import Path

import trustme

from tests.support.dispatching import subscriber
from thorn_stream.adapters.http.targets import Target, Targets
from thorn_stream.core.subscribers import Subscriber, Tls
from thorn_stream.core.validators import Guard


def with_ca(path: Path, stamp: str) -> Subscriber:
    """As it is made of a file: the same words, and what the certificate's file held then."""
    tls = Tls(ca_file=str(path)).stamped(stamp)
    return subscriber("a", url="https://a.example.com/", tls=tls)


def number(target: Target) -> object:
    """Of the authority that a target's receiver has to prove itself by."""
    assert target.origin.context is not None
    (certificate,) = target.origin.context.get_ca_certs()
    return certificate["serialNumber"]


def test_files_of_another_stamp_are_read_again(tmp_path: Path) -> None:
    """One context for all that are equal, another for those that were replaced, none too many."""
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    targets = Targets(Guard.from_names([]), None)
    old = targets.make(with_ca(path, "1"))
    assert targets.make(with_ca(path, "1")).origin is old.origin
    trustme.CA().cert_pem.write_to_path(path)
    new = targets.make(with_ca(path, "2"))
    assert number(old) != number(new)
    assert old.origin.context is not None
    gone = weakref.ref(old.origin.context)
    del old
    gc.collect()
    assert gone() is None
    assert targets.make(with_ca(path, "2")).origin is new.origin
