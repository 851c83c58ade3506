"""Curves as SVG, by matplotlib."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any, cast

from tests.lab.bench.figures import Curve

#: The same curve is the same file, so that only what changed is a difference.
_STYLE = {"svg.hashsalt": "hourglass", "svg.fonttype": "none", "font.size": 10}


def draw(curve: Curve, directory: Path) -> Path:
    """Write the curve to `directory`; the file."""
    # Slow to load, and needed only where a page is written.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with cast(Any, mpl).rc_context(_STYLE):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes: Any = figure.subplots()
        for line, values in curve.lines.items():
            axes.plot(curve.xs, values, marker="o", label=line)
        axes.set(title=curve.title, xlabel=curve.x, ylabel=curve.y, xscale="log")
        axes.set_xticks(curve.xs, labels=[f"{x:,.0f}" for x in curve.xs], minor=False)
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
        drawn = StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{curve.name}.svg"
    path.write_text("\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n")
    return path
