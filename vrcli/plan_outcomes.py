"""What plans of sweeps, comparisons and studies give back: what would run, what of it is stored, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vrcli.outcomes import Outcome
from vrcli.report.study.blocks import Block

if TYPE_CHECKING:
    from vrcli.study.compare_plan import ComparePlan
    from vrcli.study.files.run import StudyPlan
    from vrcli.study.results import SweepPlan

__all__ = ["ComparePlanOutcome", "PlanOutcome", "StudyPlanOutcome"]


@dataclass(frozen=True, repr=False)
class PlanOutcome(Outcome):
    """What a sweep would do; nothing was run."""

    result: SweepPlan

    @property
    def left_s(self) -> float:
        """Estimate of the seconds until all trials have ended."""
        return self.result.left_s

    def blocks(self) -> Sequence[Block]:
        from vrcli.report.study.sweep import plan_blocks

        return plan_blocks(self.result)

    def as_json(self) -> Any:
        from vrcli.report.study.sweep import plan_json

        return plan_json(self.result)


@dataclass(frozen=True, repr=False)
class ComparePlanOutcome(Outcome):
    """What a comparison would do, on each of its tasks; nothing was run."""

    result: Sequence[ComparePlan]

    @property
    def left_s(self) -> float:
        """Estimate of the seconds until all runs have ended; NaN where it is not known."""
        return sum(one.left_s for one in self.result)

    def blocks(self) -> Sequence[Block]:
        from vrcli.report.study.compare_plan import plan_blocks

        return plan_blocks(self.result)

    def as_json(self) -> Any:
        from vrcli.report.study.compare_plan import plan_json

        return plan_json(self.result)


@dataclass(frozen=True, repr=False)
class StudyPlanOutcome(Outcome):
    """What a study would take; nothing was run."""

    result: StudyPlan

    @property
    def left_s(self) -> float:
        """Estimate of the seconds until all is done; NaN where data are missing."""
        return self.result.left_s

    def blocks(self) -> Sequence[Block]:
        from vrcli.report.study.plan import plan_blocks

        return plan_blocks(self.result)

    def as_json(self) -> Any:
        from vrcli.report.study.plan import plan_json

        return plan_json(self.result)
