"""The training loop, one for all tasks."""

#: Raised by hand when the loop, its seeding or schedules, or what all tasks share gives other numbers than before.
REVISION = 1
