"""The stages of a run: train, tune (val_grid), search, evaluate, export; each takes a `Run` and nothing else."""
