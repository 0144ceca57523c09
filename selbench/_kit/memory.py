"""Memory: how much there is, and what one step frees stays for the next."""

import ctypes
import os
import platform
import re
from contextlib import suppress
from pathlib import Path

# Parameters of glibc's mallopt, of its malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK = 1 << 30  # of maps or gradients that stay
KEPT = 1 << 28  # at the end of the heap; more goes back, since endless keeping costs more memory


def keep_memory() -> bool:
    """Have malloc keep what is freed, for the next step; return whether it does from now on.

    A training frees and takes the same hundreds of megabytes at every step. As glibc is set, large
    blocks come from the system and go back to it, and each of their pages costs a fault. Results do
    not change. Elsewhere than with glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_THRESHOLD, LARGEST_BLOCK) and mallopt(TRIM_THRESHOLD, KEPT))


def available() -> int:
    """Return how many bytes this process may still take, about."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError):
        text = Path("/proc/meminfo").read_text()
        found += [1024 * int(kilobytes) for kilobytes in re.findall(r"MemAvailable:\s*(\d+)", text)]
    with suppress(OSError, ValueError):  # "max" where a container has no limit
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found)
