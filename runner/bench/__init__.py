"""What benchmark.py measures: steps, candidates, the data path, growth and a profile, each against something."""
