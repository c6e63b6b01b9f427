"""The declared revision of the engine: a part of every run's identity."""

#: Raised by hand when the loop, its seeding or schedules, or what all tasks share gives other numbers than before.
REVISION = 1
