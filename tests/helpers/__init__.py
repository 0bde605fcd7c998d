"""What several folders of tests build, write and run in small."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
"""The root of the repository: every test's paths start here."""
