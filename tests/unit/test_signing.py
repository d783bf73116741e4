"""Signatures against the public implementation, and against those who tamper."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

import thorn_stream.verification
from thorn_stream.core.errors import ConfigurationError, InvalidSignature
from thorn_stream.core.signing import Digest, Signer, derived_secret, secret_key, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD = "the text of an older secret"
BODY = '{"event":"order.paid","data":{"é":1}}'.encode()
NOW = 1_700_000_000


def signed(secrets: list[str], body: bytes = BODY, at: int = NOW) -> dict[str, str]:
    signer = Signer(secrets)
    return {
        "Webhook-Id": "delivery-1",
        "Webhook-Timestamp": str(at),
        "Webhook-Signature": signer.standard("delivery-1", at, body).decode(),
        "Hook-HMAC": signer.hook_hmac(body).decode(),
    }


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 128, 200, 5_000])
@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_hook_hmac_is_the_hmac_of_the_body(length: int, digest: Digest) -> None:
    """With keys and bodies on either side of the hash's block size."""
    secret, body = "k" * max(1, length), b"b" * length
    expected = base64.b64encode(hmac.new(secret.encode(), body, digest).digest())
    assert Signer([secret], digest).hook_hmac(body) == expected


@pytest.mark.parametrize("body", [b"", b"{}", BODY])
def test_the_public_implementation_signs_the_same(body: bytes) -> None:
    """Package `standardwebhooks`, with a secret of the standard's form."""
    theirs = Webhook(SECRET).sign("delivery-1", datetime.fromtimestamp(NOW, UTC), body.decode())
    assert Signer([SECRET]).standard("delivery-1", NOW, body).decode() == theirs


def test_the_public_implementation_accepts_a_rotation() -> None:
    """One signature per live secret, newest first: a receiver may still have the older one."""
    now = int(datetime.now(UTC).timestamp())
    older = "whsec_" + base64.b64encode(b"older").decode()
    headers = signed([SECRET, older], at=now)
    for secret in (SECRET, older):
        assert Webhook(secret).verify(BODY, headers) == {"event": "order.paid", "data": {"é": 1}}
    assert [one[:3] for one in headers["Webhook-Signature"].split()] == ["v1,", "v1,"]


def test_hook_hmac_is_keyed_by_the_text_of_the_newest_secret() -> None:
    """Not by what a `whsec_` secret decodes to."""
    expected = base64.b64encode(hmac.digest(SECRET.encode(), BODY, hashlib.sha256))
    assert Signer([SECRET, OLD]).hook_hmac(BODY) == expected


def test_a_derived_secret_follows_from_master_and_id() -> None:
    """It has the standard's form, and another id has another one."""
    digest = hmac.digest("mästerkey".encode(), b"billing", hashlib.sha256)
    secret = derived_secret("mästerkey", "billing")
    assert secret == "whsec_" + base64.b64encode(digest).decode()
    assert secret_key(secret) == digest
    assert derived_secret("mästerkey", "other") != secret


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_***", "whsec_YQ", "whsec_YQ==\n"])
def test_a_secret_that_is_no_key_is_refused_without_showing_it(secret: str) -> None:
    """When the signer is made, and when a receiver checks."""
    for use in (
        lambda: Signer([secret]),
        lambda: verify(secret, signed([SECRET]), BODY, now=NOW),
    ):
        with pytest.raises(ConfigurationError) as refused:
            use()
        assert "YQ" not in str(refused.value)
        assert "***" not in str(refused.value)


def test_no_secret_at_all_is_refused() -> None:
    """An empty list would sign, or accept, nothing or everything."""
    with pytest.raises(ConfigurationError, match="no secret"):
        Signer([])
    with pytest.raises(ConfigurationError, match="no secret"):
        verify([], signed([SECRET]), BODY, now=NOW)


@pytest.mark.parametrize("secret", [SECRET, OLD, [OLD, SECRET], ["unknown", OLD]])
def test_what_was_signed_is_verified(secret: str | list[str]) -> None:
    """With any of the live secrets, header names in any case, and either kind."""
    headers = signed([SECRET, OLD])
    verify(secret, headers, BODY, now=NOW)
    verify(secret, {name.upper(): value for name, value in headers.items()}, BODY, now=NOW + 300)
    verify([SECRET], headers, BODY, now=NOW + 10**9, hook_digest="sha256")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Webhook-Id": "delivery-2"}, "was not made with this secret"),
        ({"Webhook-Timestamp": str(NOW + 1)}, "was not made with this secret"),
        ({"Webhook-Timestamp": str(NOW - 301)}, "is 301 s old, 300 s are tolerated"),
        ({"Webhook-Timestamp": str(NOW + 301)}, "is 301 s ahead"),
        ({"Webhook-Timestamp": "soon"}, "no number of seconds"),
        ({"Webhook-Timestamp": "-5"}, "no number of seconds"),
        ({"Webhook-Timestamp": "9" * 5000}, "no number of seconds"),
        ({"Webhook-Signature": "v1,AAAA"}, "was not made with this secret"),
        ({"Webhook-Signature": "v1,é\ud800"}, "was not made with this secret"),
        ({"Webhook-Signature": "v2,AAAA"}, "was not made with this secret"),
        ({"Webhook-Signature": ""}, "webhook-signature is missing"),
        ({"Webhook-Id": ""}, "webhook-id is missing"),
        ({"Webhook-Timestamp": ""}, "webhook-timestamp is missing"),
    ],
)
def test_what_was_changed_is_refused(change: dict[str, str], reason: str) -> None:
    """It says what is wrong, and never which signature would be right."""
    headers = signed([SECRET]) | change
    with pytest.raises(InvalidSignature) as refused:
        verify(SECRET, headers, BODY, now=NOW)
    assert reason in str(refused.value)
    assert signed([SECRET])["Webhook-Signature"][3:] not in str(refused.value)


def test_another_body_or_secret_is_refused() -> None:
    """For both kinds."""
    headers = signed([SECRET])
    for hook_digest in (None, "sha256"):
        digest: Digest | None = "sha256" if hook_digest else None
        with pytest.raises(InvalidSignature):
            verify(SECRET, headers, BODY + b" ", now=NOW, hook_digest=digest)
        with pytest.raises(InvalidSignature):
            verify("another", headers, BODY, now=NOW, hook_digest=digest)
    with pytest.raises(InvalidSignature, match="hook-hmac is missing"):
        verify(SECRET, {}, BODY, now=NOW, hook_digest="sha256")


def test_taking_the_standard_signature_away_does_not_help() -> None:
    """Hook-HMAC alone, which can be replayed, is accepted only by who asks for it."""
    headers = {"Hook-HMAC": signed([SECRET])["Hook-HMAC"]}
    with pytest.raises(InvalidSignature, match="webhook-id is missing"):
        verify(SECRET, headers, BODY, now=NOW)


def test_the_public_verify_takes_the_time_from_the_clock() -> None:
    """Unless it is given one; the tolerance is in seconds."""
    fresh = signed([SECRET], at=int(datetime.now(UTC).timestamp()))
    thorn_stream.verification.verify(SECRET, fresh, BODY)
    old = signed([SECRET])
    with pytest.raises(InvalidSignature, match="old"):
        thorn_stream.verification.verify(SECRET, old, BODY)
    thorn_stream.verification.verify(SECRET, old, BODY, now=NOW + 50, tolerance=60)
