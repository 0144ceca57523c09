"""Memory that stays: what one step frees, the next one takes without asking the system."""

import ctypes
import platform

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
