"""Parts of a check that go wrong."""

import subprocess
import sys
import time


def hang(check):
    """A figure, a process of its own with its number in a file, and no end."""
    check.note("seen", 3.5, "ms", "before it hangs")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (check.folder / "child").write_text(str(child.pid))
    time.sleep(600)


def crash(check):
    """A figure, then an error."""
    check.note("seen", 1)
    raise RuntimeError("the device fell off the bus")
