"""Search the trained supernet: `python search.py dataset=digits trainer=mini`, the words of train.py."""

from runner.cli import main
from runner.searching import search

if __name__ == "__main__":
    main(lambda config: print(f"searched: {search(config)}"))
