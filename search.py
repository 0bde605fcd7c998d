"""Search the trained supernet: `python search.py dataset=digits trainer=mini`, the overrides of train.py."""

from runner.signals import loading

with loading():
    from runner.cli import main
    from runner.stages.search import search

if __name__ == "__main__":
    main(lambda run: print(f"searched: {search(run)}"))
