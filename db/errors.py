"""The store's failures that a user can act on."""

from __future__ import annotations


class StoreError(Exception):
    """A request that the store cannot carry out, in one line. Nothing was changed."""

    exit_code = 2


class EmptyDatabase(StoreError):
    """There is a database without tables, such as one whose making was cut short."""


class Unavailable(StoreError):
    """The database cannot be used at this moment: its server is gone, its disk is full, another holds its lock.

    What was recorded stays, and the same request may succeed later.
    """

    exit_code = 1


class LeaseLost(StoreError):
    """Another process has taken over what this one was writing, which may write no more of it."""

    exit_code = 1
