"""Export the merged winner: `python export.py dataset=digits trainer=mini`, the words of train.py and search.py."""

from runner.cli import main
from runner.exporting import export

if __name__ == "__main__":
    main(lambda config: print(f"exported: {export(config)}"))
