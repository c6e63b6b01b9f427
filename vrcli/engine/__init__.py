"""The training loop, one for all tasks."""
