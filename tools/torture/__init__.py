"""The framework under attack: killed at every change of a file, fed hostile inputs, on a full disk, twice at once.

    python -m tools.torture                          # everything, about an hour on two cores; make torture
    python -m tools.torture points --only search@17/KILL
    python -m tools.torture inputs --seed 4711

What is counted, how and why: docs/reliability.md.
"""
