"""glibc's allocator, told to keep freed memory.

By default glibc returns every large tensor to the kernel and faults its pages in again at the next step. Keeping them
makes training steps on a CPU faster without any change of results.
"""

from __future__ import annotations

import ctypes
import sys

# mallopt's parameter numbers, from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """No mmap for large blocks, no trimming, 64 MB of padding. Call before the first tensor.

    Returns:
        Whether the allocator took the settings: False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _PAD_BYTES))
    return all(libc.mallopt(name, value) == 1 for name, value in settings)
