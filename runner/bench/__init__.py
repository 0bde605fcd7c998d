"""What benchmark.py measures, each beside something: steps, candidates, inference, the data path, growth, profiles."""
