"""Intake of the retry tiers, whose records are held until they are due: for hours, some of them."""

from thorn_stream.core.flow import ahead, may_be_held, may_come, takes_too_much
from thorn_stream.core.ledger import Ledger
from thorn_stream.dispatch.intake import Intake

__all__ = ["TierIntake"]


class TierIntake(Intake):
    """The Source is let hand over little before it is looked at, and then more.

    Were it given all that may be held, the tier it happens to read first would take everything
    before it can be paused, and nothing of the others would be read until that is due. So what is
    held is bounded by pauses alone, and the credit is what may be on its way: the Source has to
    begin with `ahead`.
    """

    def _returned(self) -> int:
        budget = self._limits.memory // 4
        held = sum(ledger.held_bytes for ledger in self.ledgers.values())
        missing = ahead(budget) - may_come(self.open_bytes, held, budget)
        return self._entered_bytes - missing

    def _takes_too_much(self, ledger: Ledger, times: int = 1) -> bool:
        held, budget = times * ledger.held_bytes, may_be_held(self._limits.memory // 4)
        total = times * self.open_bytes
        return held > 0 and takes_too_much(held, total, budget, len(self.ledgers))
