"""The store's failures that a user can act on."""

from __future__ import annotations


class StoreError(Exception):
    """A request that the store cannot carry out, in one line. Nothing was changed."""

    exit_code = 2


class EmptyDatabase(StoreError):
    """There is a database without tables, such as one whose making was cut short."""
