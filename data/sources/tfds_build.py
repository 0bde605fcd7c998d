"""Build a missing tensorflow-datasets copy. The only part of the data package that needs TensorFlow."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from data.base import DataError
from data.vtab_table import VTAB_BY_ID


def build_copy(root: Path, task_id: str) -> None:
    """Let tensorflow-datasets download and prepare the task's builder under `root`, as array_record.

    Raises:
        DataError: if TensorFlow is missing (before anything is fetched), if archives have to be put in place by hand,
            and if the download fails.
    """
    name = VTAB_BY_ID[task_id].builder
    if find_spec("tensorflow") is None:
        raise DataError(
            "build=yes needs TensorFlow, which is not installed: pip install -e '.[data,tfds-build]'; or use "
            "source=raw or source=noah, which do not need it"
        )
    os.environ.setdefault("TFDS_DISABLE_GCS", "1")
    import tensorflow_datasets

    settings = tensorflow_datasets.download.DownloadConfig(try_download_gcs=False)
    try:
        builder = tensorflow_datasets.builder(name, data_dir=str(root), file_format="array_record")
        builder.download_and_prepare(download_config=settings)
    except Exception as error:  # TensorFlow, the downloader and each generator raise kinds of their own
        by_hand = VTAB_BY_ID[task_id].manual
        hint = f"; first fetch by hand into {root / 'downloads' / 'manual'}: {by_hand}" if by_hand else ""
        raise DataError(f"tensorflow-datasets could not build {name}: {str(error).strip()}{hint}") from error
