"""What all pictures share: size, colours, and how they are written.

Drawn through `Figure` rather than pyplot: no display, no global state, and nothing to close in long sweeps.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.files import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(f"glora.{__name__}")

# Files alone are drawn. A notebook hands a backend of its own to every command it starts, and matplotlib, which reads
# the variable at its first import, refuses to be imported where that backend is not installed.
os.environ["MPLBACKEND"] = "agg"

# Okabe and Ito: told apart with the common kinds of colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", ":")
DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path | str) -> Path:
    """Write the figure as PNG and, for reports and papers, as SVG of the same name; returns the path of the PNG."""
    import matplotlib

    path = Path(path)
    with writing(path) as part:
        figure.savefig(part, dpi=DPI, format="png")
    # Text stays text, and the same figure is the same file: no date, ids from a fixed salt.
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "glora"}),
        writing(path.with_suffix(".svg")) as part,
    ):
        figure.savefig(part, format="svg", metadata={"Date": None})
    return path


def is_drawn(path: Path) -> bool:
    """Whether both files of a picture that `save` wrote are there."""
    return path.exists() and path.with_suffix(".svg").exists()


def attempt(draw: Callable[..., Path], path: Path, *args: Any) -> list[Path]:
    """`draw(*args, path=path)` as a list of one; a plot that fails is a warning, since its numbers are kept."""
    try:
        return [draw(*args, path=path)]
    except Exception as error:  # whatever matplotlib, a font or the disk raises
        log.warning("no picture %s (%s: %s)", path, type(error).__name__, error)
        return []


def tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3)
