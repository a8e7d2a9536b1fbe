"""Draws bench/results/latest.json into bench/plots/*.svg. A program, run in .peers/bench, which has matplotlib.

The same results give the same files, byte by byte: no dates, no random ids. A server has one colour everywhere, from
Okabe and Ito's palette, which people who see few colours can tell apart; lines differ by their markers too.
"""

from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt  # noqa: E402
from _report import RESULTS, number  # noqa: E402
from _results import Results  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

PLOTS = Path(__file__).resolve().parent / "plots"
COLOURS = {
    "uwsgi": "#0072B2",
    "uwsgi-threads": "#56B4E9",
    "uwsgi-router": "#999999",
    "gunicorn": "#E69F00",
    "heatperf": "#009E73",
}
MARKERS = {"uwsgi": "o", "uwsgi-threads": "s", "uwsgi-router": "P", "gunicorn": "^", "heatperf": "D"}
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9)
STYLE = {
    "svg.hashsalt": "heatperf",
    # Text stays text: small files, and a reader's own fonts.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


def save(figure: Figure, name: str) -> None:
    """As SVG without a date."""
    PLOTS.mkdir(exist_ok=True)
    figure.savefig(PLOTS / f"{name}.svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def _bars(results: Results, field: str, title: str, unit: str, name: str) -> None:
    """Groups of horizontal bars, one per workload, the number at each bar's end."""
    keys, shown = list(results.servers), list(results.workloads_of("compare"))
    height = 0.8 / len(keys)
    figure, axes = plt.subplots(figsize=(9, 0.55 + 0.24 * len(keys) * len(shown)), layout="constrained")
    largest = 0.0
    for number_of, key in enumerate(keys):
        spreads = [results.spread("compare", field, workload=each["key"], server=key) for each in shown]
        places = [row + (number_of - (len(keys) - 1) / 2) * height for row in range(len(shown))]
        values = [found.middle if found else 0 for found in spreads]
        reach = [
            [found.middle - found.low if found else 0 for found in spreads],
            [found.high - found.middle if found else 0 for found in spreads],
        ]
        axes.barh(places, values, height * 0.9, color=COLOURS[key], label=results.servers[key]["name"], xerr=reach,
                  error_kw={"elinewidth": 0.8, "ecolor": "#333333"})  # fmt: skip
        for place, found in zip(places, spreads, strict=True):
            if found:
                largest = max(largest, found.high)
                axes.annotate(number(found.middle), (found.high, place), (4, 0), textcoords="offset points",
                              va="center", fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(shown)), [each["name"] for each in shown])
    axes.invert_yaxis()
    axes.set_xlim(0, largest * 1.12)
    axes.grid(visible=False, axis="y")
    axes.set_title(title)
    axes.set_xlabel(unit)
    figure.legend(loc="outside lower center", ncols=len(keys))
    save(figure, name)


def _milliseconds(value: float, _position: object = None) -> str:
    return f"{value:g}"


def latency(results: Results) -> None:
    """Distribution per workload: percentile upwards, time to the right; the middle round's values."""
    shown = list(results.workloads_of("compare"))
    columns = 2
    rows = -(-len(shown) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(9, 2.3 * rows + 0.5), sharex=True, sharey=True,
                                layout="constrained", squeeze=False)  # fmt: skip
    ticks = (1, 10, 25, 50, 75, 90, 99)
    for axes, workload in zip(grid.flat, shown, strict=False):
        for key in results.servers:
            points = []
            for percent in PERCENTILES[:-1]:
                found = results.spread("compare", f"p{percent:g}_ms", workload=workload["key"], server=key)
                if found:
                    points.append((found.middle, percent))
            if points:
                axes.plot(*zip(*points, strict=True), color=COLOURS[key], marker=MARKERS[key], markersize=3.5,
                          linewidth=1.4, label=results.servers[key]["name"])  # fmt: skip
        axes.set_title(workload["name"])
        axes.set_xscale("log")
        axes.set_yticks(ticks)
        axes.xaxis.set_major_formatter(_milliseconds)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("% of requests")
    for axes in grid[-1]:
        axes.set_xlabel("answered within, ms (logarithmic)")
    if len(shown) % columns:
        grid[-2, -1].set_xlabel("answered within, ms (logarithmic)")
        grid[-2, -1].tick_params(labelbottom=True)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(results.servers))
    save(figure, "latency")


def _lines(results: Results, axes: Axes, phase: str, over: str) -> None:
    """Rate against something, one line per server with its name at the end."""
    counts = sorted({record[over] for record in results.records(phase)})
    for key, server in results.servers.items():
        found = [results.spread(phase, "rate", server=key, **{over: count}) for count in counts]
        points = [(count, one) for count, one in zip(counts, found, strict=True) if one]
        if not points:
            continue
        places, spreads = zip(*points, strict=True)
        axes.plot(
            places, [one.middle for one in spreads], color=COLOURS[key], marker=MARKERS[key], label=server["name"]
        )
        axes.fill_between(places, [one.low for one in spreads], [one.high for one in spreads], color=COLOURS[key],
                          alpha=0.15, linewidth=0)  # fmt: skip
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_yscale("log")
    axes.set_xlabel(over)
    axes.yaxis.set_major_formatter(lambda value, _position: number(value) if value >= 100 else f"{value:g}")


def throughput(results: Results) -> None:
    """Against workers and against connections, side by side."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    _lines(results, left, "workers", "workers")
    left.set_title("authenticated 404, by workers")
    right.set_xscale("log", base=2)
    _lines(results, right, "connections", "connections")
    right.minorticks_off()
    right.set_title("the same, by connections")
    left.set_ylabel("requests per second (logarithmic)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(results.servers))
    save(figure, "throughput")


def main() -> None:
    """Draw everything there are results for."""
    results = Results.read(RESULTS)
    with plt.rc_context(STYLE):
        if results.records("compare"):
            _bars(
                results, "cpu_us", "CPU per request; less is better", "microseconds, all processes of the server", "cpu"
            )
            _bars(results, "rate", "Throughput; more is better", "requests per second", "rate")
            latency(results)
        if results.records("workers") and results.records("connections"):
            throughput(results)


if __name__ == "__main__":
    main()
