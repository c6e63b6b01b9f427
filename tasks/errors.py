"""What a task says to the user when it cannot do what was asked for."""


class TaskError(Exception):
    """The user asked for something the task cannot do (no such data set, no image column): one line, shown as it is."""

    exit_code = 2
