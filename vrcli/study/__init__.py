"""What to run: tune, confirm, compare, study files.

`vrcli.study(...)` is `vrcli.studies.study`: this package has the name, so it can be called.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    def __call__(self, *given: Any, **words: Any) -> Any:
        return sys.modules["vrcli"]._study(*given, **words)


sys.modules[__name__].__class__ = _Room
