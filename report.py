"""One HTML page of finished runs: `python report.py` of all, `python report.py dataset=digits` of what is named."""

from runner.signals import loading

with loading():
    from runner.cli import main
    from runner.report.page import finish, of_run

if __name__ == "__main__":
    main(of_run, finish, lambda conf: [conf.output_root, ""])
