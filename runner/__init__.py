"""What the scripts share: configs, run folders, stages, trackers, tables and plots."""

import os

# Before torch is imported: a thread of a product that waits for the others sleeps. By default it spins, and beside
# another process on the same cores products then take several times as long (docs/performance.md has figures).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
