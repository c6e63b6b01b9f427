"""Which runs repeat each other: equal in everything but the seed.

The one rule of it. Reports group runs by its digest, which the store keeps with each run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: Parts of a spec that have a column of their own; all but the seed are part of a configuration by themselves.
IDENTITY = ("task", "preset", "dataset", "dataset_fingerprint", "optimizer", "seed")
#: What the seed decides once the rest is known: the rates that a run replays, beside `lr_from`, whose they are.
SEEDED = ("lr_digest",)


def flat_settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a spec by its own name; where two sections share a name, the later has its section's before it.

    A data set's path is left out once its content is known: the same data elsewhere are the same data. The code's
    identity is `engine_code`, `task_code` and `optimizer_code`.
    """
    known_data = bool(spec.get("dataset_fingerprint"))
    found: dict[str, Any] = {}
    for key, value in spec.items():
        if key in IDENTITY:
            continue
        if not isinstance(value, Mapping):
            found[key] = value
            continue
        for name, inner in value.items():
            if (name == "dataset" and known_data) or name in SEEDED:
                continue
            name = f"{name}_code" if key == "code" else name
            found[name if name not in found else f"{key.removesuffix('_settings')}.{name}"] = inner
    return found


def configuration_of(spec: Mapping[str, Any]) -> str:
    """Digest of all of a spec but its seed, 16 hexadecimal digits: equal for runs that repeat each other."""
    own = [spec.get(name) for name in IDENTITY if name != "seed"]
    body = json.dumps([own, flat_settings(spec)], sort_keys=True, default=str)
    return hashlib.blake2b(body.encode(), digest_size=8).hexdigest()
