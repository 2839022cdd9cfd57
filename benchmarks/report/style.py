"""The style of all plots, and their files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

OURS = "#1f5fa8"
OURS_LIGHT = "#8fb8e3"
OURS_DARK = "#123a66"
OTHERS = "#b9612b"
OTHERS_LIGHT = "#e8b893"
GREY = "#777777"
SEVERAL = (OURS, "#d1742f", "#3c8d40", "#8d4fa8", "#777777", "#b5a12c")
"""Colours of lines that differ only in colour."""

DPI = 150

mpl.rcParams.update(
    {
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "svg.hashsalt": "tef-manager",
        "svg.fonttype": "none",
        "figure.constrained_layout.use": True,
    }
)


@contextmanager
def figure(folder: Path, name: str, width: float, height: float, columns: int = 1) -> Iterator[Any]:
    """Yield axes, one or a list of them side by side; write them as PNG and SVG."""
    drawn, axes = plt.subplots(1, columns, figsize=(width, height))
    yield axes
    folder.mkdir(parents=True, exist_ok=True)
    drawn.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
    drawn.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    plt.close(drawn)


def thousands(axis: Any) -> None:
    """Write an axis's numbers as 1,000."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
