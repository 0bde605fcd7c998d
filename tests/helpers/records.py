"""Results as runs leave them, and rows of the tables made of them."""

MINI = {"digits": "natural", "textures": "specialized", "shapes_count": "structured", "shapes_location": "structured",
        "shapes_orientation": "structured", "shapes_distance": "structured"}  # fmt: skip


def record(dataset="digits", test=0.84, **changes):
    """A result of GLoRA on a task of the mini suite."""
    return {"schema": 1, "dataset": dataset, "group": MINI.get(dataset, "natural"), "suite": "mini", "method": "glora",
            "label": "GLoRA-8-4", "ranks": [8, 4], "backbone": "vit_micro", "protocol": "clean", "hparams": "global",
            "seed": 0, "training_images": 800, "val_accuracy": 0.85, "test_accuracy": test, "params": 12345,
            "selected_on_test": False, "normalization": "imagenet", "source": "rendered", "codec": "raw",
            "comparators": {}} | changes  # fmt: skip


def rows(values, seed=0, **changes):
    """A record of each task of the mini suite."""
    return [record(d, a, seed=seed, **changes) for d, a in zip(MINI, values, strict=True)]


def row(table, label="GLoRA-8-4", number=0):
    """{column: cell} of the row with this label."""
    matches = [dict(zip(table.header, cells, strict=True)) for cells in table.rows if cells[0].startswith(label)]
    return matches[number]
