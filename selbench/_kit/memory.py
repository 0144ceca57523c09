"""Memory: how much is available, and keeping freed memory for the next step."""

import ctypes
import os
import platform
import re
from contextlib import suppress
from pathlib import Path

# Parameters of glibc's mallopt, from its malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK = 1 << 30  # bytes of a block, such as maps or gradients, that is kept
KEPT = 1 << 28  # bytes kept at the end of the heap; keeping all of them costs more memory


def keep_memory() -> bool:
    """Make malloc keep freed memory for the next step; return whether that succeeded.

    Training frees and allocates the same hundreds of megabytes in every step. By default glibc
    returns large blocks to the system, and each page of a new block costs a page fault. Results do
    not change. Without glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # malloc, not one of its own
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_THRESHOLD, LARGEST_BLOCK) and mallopt(TRIM_THRESHOLD, KEPT))


def available() -> int:
    """Return roughly how many bytes this process may still allocate."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError):
        text = Path("/proc/meminfo").read_text()
        found += [1024 * int(kilobytes) for kilobytes in re.findall(r"MemAvailable:\s*(\d+)", text)]
    with suppress(OSError, ValueError):  # "max" in a container without a limit
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found)
