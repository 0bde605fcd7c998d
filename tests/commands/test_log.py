"""Warnings of every kind reach the log file of the stage and, once each, the terminal."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.commands import forked

PLUGIN = """
import logging, warnings
from glora.methods.bitfit import BitFit

class Loud(BitFit):
    name = label = "loud"
    paper_rows, known_params = {}, {}

    def trainable(self):
        warnings.warn("from warnings")
        for name in ("timm.models", "PIL.Image", "glora.data.cache", "some.library", "huggingface_hub.utils"):
            logging.getLogger(name).warning("from " + name)
        logging.getLogger("glora.runner").info("for information")
        logging.getLogger("some.library").info("not for us")
        return super().trainable()

"""
METHOD = "name: loud\noptions: {}\nrecipe: {lr: 1.0e-3, epochs: 1}\n"
LOGGERS = ("timm.models", "PIL.Image", "glora.data.cache", "some.library")
MESSAGES = ["from warnings", *(f"from {name}" for name in LOGGERS)]


def test_every_warning_of_a_run_is_in_its_log_file_and_once_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "configs" / "method").mkdir(parents=True)
    (tmp_path / "configs" / "method" / "loud.yaml").write_text(METHOD)
    (tmp_path / "loud.py").write_text(PLUGIN)
    done = forked([
        "train.py", "dataset=digits", "method=loud", "trainer=mini", "trainer.epochs=1", "trainer.max_steps=1",
        "backbone=vit_micro", f"plugins=[{tmp_path}/loud.py]", f"hydra.searchpath=[file://{tmp_path}/configs]",
        "logger.wandb=disabled", f"output_root={tmp_path}/out", f"data_root={tmp_path}/data",
    ])  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").rglob("train.log")
    text = path.read_text()
    for message in [*MESSAGES, "from huggingface_hub.utils", "for information"]:
        assert text.count(message) > 0, message
        assert (done.stdout + done.stderr).count(message) == text.count(message), message
    assert "UserWarning: from warnings" in text and "not for us" not in text + done.stdout + done.stderr
    assert "\n\n" not in text
