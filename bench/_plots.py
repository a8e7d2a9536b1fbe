"""Draws bench/results/latest.json into bench/plots/*.svg. A program, run in .peers/bench, which has matplotlib.

The same results give the same files, byte by byte: no dates, no random ids. A server has one colour everywhere, from
Okabe and Ito's palette, which people who see few colours can tell apart; lines differ by their markers too.
"""

from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt  # noqa: E402
from _report import RESULTS  # noqa: E402
from _report_rpc import CLIENTS  # noqa: E402
from _results import Results  # noqa: E402
from _tables import number  # noqa: E402
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


def _bars(
    results: Results, field: str, title: str, unit: str, name: str, phase: str = "compare", wide: bool = False
) -> None:
    """Groups of horizontal bars, one per workload, the number at each bar's end.

    :param wide: a logarithmic scale, for workloads that are far apart
    """
    keys, shown = list(results.servers), results.workloads_of(phase)
    height = 0.8 / len(keys)
    figure, axes = plt.subplots(figsize=(9, 0.55 + 0.24 * len(keys) * len(shown)), layout="constrained")
    largest = 0.0
    for number_of, key in enumerate(keys):
        spreads = [results.spread(phase, field, workload=each["key"], server=key) for each in shown]
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
    if wide:
        axes.set_xscale("log")
        axes.set_xlim(right=largest * 3)
    else:
        axes.set_xlim(0, largest * 1.12)
    axes.grid(visible=False, axis="y")
    axes.set_title(title)
    axes.set_xlabel(unit)
    figure.legend(loc="outside lower center", ncols=len(keys))
    save(figure, name)


def clients(results: Results) -> None:
    """CPU per message of every client, 32 messages at once."""
    tasks = (
        ("call, small", {"what": "call", "payload": "small", "server": "fast"}),
        ("confirmed cast, small", {"what": "cast", "payload": "small", "server": "fast"}),
        ("create_stack, 55 kB", {"what": "call", "payload": "big", "server": "fast"}),
        ("call, small, stock server", {"what": "call", "payload": "small", "server": "stock"}),
    )
    figure, grid = plt.subplots(2, 2, figsize=(9, 5), layout="constrained")
    for axes, (title, where) in zip(grid.flat, tasks, strict=True):
        found = {
            name: one
            for key, name in CLIENTS.items()
            if (one := results.spread("rpc-client", "cpu_us", client=key, concurrency=32, **where))
        }
        colours = [COLOURS["heatperf" if name.startswith("heatperf") else "uwsgi"] for name in found]
        axes.barh(list(found), [one.middle for one in found.values()], color=colours)
        for row, one in enumerate(found.values()):
            axes.annotate(number(one.middle), (one.middle, row), (4, 0), textcoords="offset points", va="center",
                          fontsize=8)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlim(left=1, right=6 * max([one.middle for one in found.values()], default=1))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_title(title)
    for axes in grid[-1]:
        axes.set_xlabel("microseconds of CPU (logarithmic)")
    save(figure, "rpc-client")


def _milliseconds(value: float, _position: object = None) -> str:
    return f"{value:g}"


def latency(results: Results) -> None:
    """Distribution per workload: percentile upwards, time to the right; the middle round's values."""
    shown = results.workloads_of("compare")
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
        if results.records("rpc-client"):
            clients(results)
        if results.records("rpc-http"):
            unit = "microseconds, all processes of the server (logarithmic)"
            title = "CPU per request that reaches an engine; less is better"
            _bars(results, "cpu_us", title, unit, "rpc-cpu", "rpc-http", wide=True)
        if results.records("workers") and results.records("connections"):
            throughput(results)


if __name__ == "__main__":
    main()
