"""Plots of a day: what waited, for how long, and how many replicas there were, one line a policy."""

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "dunnage"  # the same figures make the same file
matplotlib.rcParams["svg.fonttype"] = "none"  # letters as letters: smaller, and they can be searched
matplotlib.rcParams["font.family"] = "sans-serif"
from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import FuncFormatter  # noqa: E402

STEP_MINUTES = 5
COLOURS = ["#b8c4cc", "#6b7a85", "#d1495b", "#edae49", "#1f6f8b"]
PANELS = [
    ("jobs that wait", "symlog", lambda minute: minute.point.backlog),
    ("replicas", "linear", lambda minute: minute.point.running),
    ("longest wait, s", "symlog", lambda minute: minute.longest_wait_s),
]


def plot(path, title, runs):
    """Writes a file with three panels, one below the other."""
    figure, panels = pyplot.subplots(len(PANELS), 1, sharex=True, figsize=(9, 7.5))
    for panel, (unit, scale, value) in zip(panels, PANELS):
        for colour, (name, minutes) in zip(COLOURS, runs.items()):
            heights = coarse([value(minute) for minute in minutes])
            hours = [number * STEP_MINUTES / 60 for number in range(len(heights))]
            panel.plot(hours, heights, label=name, color=colour, linewidth=1.3)
        panel.set_yscale(scale)
        panel.set_ylim(bottom=0)
        panel.yaxis.set_major_formatter(FuncFormatter(lambda height, _: f"{height:,.0f}"))
        panel.set_ylabel(unit)
        panel.grid(axis="y", color="#e8ecef", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_title(title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", fontsize=9, frameon=False, ncols=len(runs))
    panels[-1].set(xlabel="hour", xlim=(0, 24), xticks=range(0, 25, 3))
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def coarse(values):
    """The highest of each few minutes."""
    return [max(values[first : first + STEP_MINUTES]) for first in range(0, len(values), STEP_MINUTES)]
