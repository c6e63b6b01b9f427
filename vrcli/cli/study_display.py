"""What a study shows while it runs."""

from __future__ import annotations

from typing import Any

from vrcli.cli.compare_display import CompareDisplay
from vrcli.cli.console import notice, say
from vrcli.study import events as e


class StudyDisplay(CompareDisplay):
    """Shows the events of a study: those of its comparisons, under the names of its parts."""

    def told(self, event: Any) -> None:
        match event:
            case e.PartBegan(part, number, parts):
                self.searches, self.over = {}, set()
                if not self.quiet:
                    say(f"part {number} of {parts}: {part}", to=self.console)
            case e.PartEnded(part, reason):
                self.stop_live()
                if reason:
                    notice(f"part {part} has no result: {reason}; its runs are stored")
            case _:
                super().told(event)
