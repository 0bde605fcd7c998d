"""A run directory: whole files or none, one process at a time, resumed from the last good checkpoint."""
