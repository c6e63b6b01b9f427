"""Runs whose loop is not ours: a script that records itself, a loop of one's own as a task, any command."""
