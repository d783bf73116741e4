"""The difference of two clocks, as far as it is certain."""

import pytest

from thorn_stream.core.clocks import skew


@pytest.mark.parametrize(
    ("appended", "seconds"),
    [(1_000, 0.0), (1_500, 0.0), (2_000, 0.0), (2_250, 0.25), (62_000, 60.0), (500, -0.5)],
)
def test_what_the_journey_may_explain_is_no_skew(appended: int, seconds: float) -> None:
    """Sent at 1,000 and answered at 2,000: only what is outside of that is the clocks'."""
    assert skew(1_000, appended, 2_000) == seconds
