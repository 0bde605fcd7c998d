"""Tasks and their images: the 19 of VTAB-1K, which users prepare, and the mini suite, which is made on the spot.

    from data import default_data_root, get_task, load_split
    split = load_split("shapes_count", "train800", data_root=default_data_root())

Knows nothing of models, training or configuration.
"""

from data.base import SPLITS, DataError, Split, TaskInfo, default_data_root
from data.folder import OwnImages, load_own, own_images
from data.images import CODECS, RESIZES, resize_batch
from data.load import load_split
from data.tasks import SUITES, TASKS, get_task

__all__ = [
    "CODECS", "RESIZES", "SPLITS", "SUITES", "TASKS", "DataError", "OwnImages", "Split", "TaskInfo",
    "default_data_root", "get_task", "load_own", "load_split", "own_images", "resize_batch",
]  # fmt: skip
