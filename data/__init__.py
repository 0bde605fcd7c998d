"""Tasks and their images: the 19 of VTAB-1K, which users prepare, and the mini suite, which is made on the spot.

    from data import default_data_root, get_task, load_split
    split = load_split("shapes_count", "train800", data_root=default_data_root())

Knows nothing of models, training or configuration.
"""

from data.augment import AUGMENTS, Augmented
from data.base import SPLITS, DataError, Split, TaskInfo, default_data_root, parts_of, user_path
from data.folder import OwnImages, load_own, own_images
from data.images import CODECS, RESIZES, resize_batch
from data.load import load_split
from data.shot_table import LIST_SEEDS, SHOT_ROWS, SHOTS, SUBSET_TARGETS, ShotRow, shot_task
from data.shots import list_info, load_images, load_shots
from data.tasks import ALIASES, SUITES, TASKS, get_task, register_task
from data.vtab_table import VTAB_SOURCES

__all__ = [
    "ALIASES", "AUGMENTS", "CODECS", "LIST_SEEDS", "RESIZES", "SHOTS", "SHOT_ROWS", "SPLITS", "SUBSET_TARGETS",
    "SUITES", "TASKS", "VTAB_SOURCES", "Augmented", "DataError", "OwnImages", "ShotRow", "Split", "TaskInfo",
    "default_data_root", "get_task", "list_info", "load_images", "load_own", "load_shots", "load_split",
    "own_images", "parts_of", "register_task", "resize_batch", "shot_task", "user_path",
]  # fmt: skip
