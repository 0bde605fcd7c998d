"""Everything that a GPU has to show, in one call that is cut off after some minutes; see `__main__`."""
