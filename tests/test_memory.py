"""What was used once goes back to the system; measured in a process of its own, in pages that are its."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

PREPARED = """
import os, threading
from demo import memory
PIECES = 10_000  # of 2 kB: above what Python keeps for itself, below what glibc takes from the system one by one
def megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
def pieces():
    return [bytearray(2000) for _ in range(PIECES)]
"""
EIGHT_THREADS = """
turn = threading.Semaphore(1)
done, leave = threading.Semaphore(0), threading.Event()
def work():
    with turn:
        held = pieces()
        kept.append(bytearray(2000))  # what lies above free pieces holds them
        del held
    done.release()
    leave.wait()
kept = []
before = megabytes()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for _ in threads:
    done.acquire()
print(megabytes() - before)
leave.set()
"""


def printed(script: str) -> list[float]:
    ended = subprocess.run([sys.executable, "-c", PREPARED + script], capture_output=True, text=True, check=True)
    return [float(line) for line in ended.stdout.splitlines()]


def test_what_is_free_between_what_is_used_is_given_back() -> None:
    before, freed, given_back = printed(
        "before = megabytes()\nheld = pieces()\nheld[:-1] = []\n"
        "freed = megabytes()\nmemory.give_back()\nprint(before, freed, megabytes(), sep='\\n')"
    )
    assert freed > before + 15
    assert given_back < before + 5


def test_threads_that_need_much_one_after_the_other_need_it_twice_at_most() -> None:
    [each] = printed(EIGHT_THREADS)
    [shared] = printed("memory.few_arenas()\n" + EIGHT_THREADS)
    assert each > 8 * 15
    assert shared < 3 * 20
