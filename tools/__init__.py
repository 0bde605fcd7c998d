"""Studies, checks and attacks that run from the checkout; each says its command."""
