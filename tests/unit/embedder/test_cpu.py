import subprocess
import sys

import pytest

from tests.conftest import ROOT

TOLD = """
import os, threading
from services.embedder.threads import COMPUTING, give_way

def work():
    give_way()
    print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

os.nice({own})
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(os.getpriority(os.PRIO_PROCESS, os.getpid()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows priorities of threads")
@pytest.mark.parametrize(("own", "thread"), [(0, 5), (10, 15), (18, 19)])
def test_a_thread_gives_way_to_its_process_however_nice_that_is(own: int, thread: int) -> None:
    code = TOLD.format(own=own)
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [str(thread), str(own)]
