"""What a figure's file shows."""

import numpy as np
from PIL import Image


def pixels(path, least=(600, 400)):
    """The pixels of a PNG that is at least as wide and high."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width >= least[0] and image.height >= least[1]
        return np.asarray(image.convert("RGB"))


def count(image, colour):
    """Pixels near a hex colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(image.astype(int) - wanted).max(axis=-1) < 12).sum())
