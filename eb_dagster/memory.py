"""Where Arrow's memory for the columns of a run comes from."""

from __future__ import annotations

import mmap
from typing import Any, Final

import pyarrow as pa

# pyarrow-stubs does not know it.
_arrow: Any = pa

# Some builds of it end the process where pages are larger than they were built for.
_has_jemalloc = "jemalloc" in _arrow.supported_memory_backends() and mmap.PAGESIZE == 4096

# Given back as it is let go. Arrow's usual pool keeps two to four times what is in use, and the
# system's leaves holes that a long run never fills: 5 to 10 % more at the peak.
POOL: Final[pa.MemoryPool] = pa.jemalloc_memory_pool() if _has_jemalloc else pa.system_memory_pool()
