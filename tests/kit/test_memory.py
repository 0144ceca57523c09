"""Memory that stays from step to step."""

import platform
import subprocess
import sys

import pytest

from selbench._kit import memory

STEPS = """
import resource, sys
from selbench._kit.memory import keep_memory
kept = sys.argv[1] == "keep" and keep_memory()
def step():
    return sum(len(part) for part in [bytearray(b"x") * (40 << 20) for _ in range(4)])
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
total = sum(step() for _ in range(5))
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, total)
import pyarrow
print(pyarrow.default_memory_pool().backend_name)
"""


def faults(how):
    command = [sys.executable, "-c", STEPS, how]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return told[0] == "True", int(told[1]), int(told[2]), told[3]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no glibc here")
def test_what_is_freed_is_not_faulted_in_again():
    kept, few, total, pool = faults("keep")
    none, many, same, _ = faults("leave")
    assert (kept, none, pool) == (True, False, "system")  # Arrow keeps its memory there too
    assert total == same == 20 * 40 << 20
    assert few < many / 10


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", None)  # asking for it would fail
    assert memory.keep_memory() is False
