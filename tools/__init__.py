"""Studies, checks and attacks that run from the checkout; each says its command."""

import runner  # noqa: F401  (before torch: it says how threads wait)
