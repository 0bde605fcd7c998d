"""Export the merged winner: `python export.py dataset=digits trainer=mini`, the overrides of train.py and search.py."""

from runner.signals import loading

with loading():
    from runner.cli import main
    from runner.stages.export import export

if __name__ == "__main__":
    main(lambda run: print(f"exported: {export(run)}"))
