"""Measurements and a recommendation for people: table, plot in text, plot as SVG. Pure.

In: Measurements, a Recommendation. Out: text. Raises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from heatperf.tuning.decision import Measurement, Recommendation

HEADINGS = ("", "SETTINGS", "ANSWERS/S", "CAPACITY", "CPU/ANSWER", "MEDIAN", "99 %", "WORKERS", "LOAD", "OTHERS")
EXPLANATION = """\
capacity: answers a second if nothing else ran here; CPU/answer: of the workers; median, 99 %: latency;
workers, load, others: CPUs that each took. Where the load shares CPUs with the workers, latency says little."""
BAR = 40
GENERATOR = "the load was the limit"


def table(measurements: Sequence[Measurement], recommendation: Recommendation) -> str:
    """:returns: a line for each trial, in the order in which they were made; > before what is recommended"""
    rows: list[tuple[str, ...]] = [HEADINGS]
    rows += [_row(each, recommendation) for each in measurements if each.samples]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines += [f"   {each.candidate}: {each.failure}" for each in measurements if not each.samples]
    return "\n".join(lines)


def _row(each: Measurement, recommendation: Recommendation) -> tuple[str, ...]:
    return (
        ">" if each.candidate == recommendation.candidate else "",
        str(each.candidate),
        f"{each.rate:.0f}",
        f"{each.capacity:.0f}",
        f"{each.cost:.0f} us",
        f"{each.median / 1000:.2f} ms",
        f"{each.slow / 1000:.2f} ms",
        f"{each.server:.2f}",
        f"{each.generator:.2f}{'*' if each.starved else ''}",
        f"{each.others:.2f}",
    )


def plot(measurements: Sequence[Measurement], recommendation: Recommendation) -> str:
    """:returns: a bar of capacity for each trial, with the noise at its end"""
    found = [each for each in measurements if each.samples]
    most = max((each.capacity for each in found), default=0.0) * (1 + recommendation.noise)
    width = max((len(str(each.candidate)) for each in found), default=0)
    lines = []
    for each in found:
        full = round(BAR * each.capacity / most) if most else 0
        unsure = round(BAR * each.capacity * recommendation.noise / most) if most else 0
        sign = ">" if each.candidate == recommendation.candidate else " "
        bar = "#" * max(full - unsure, 0) + "~" * min(2 * unsure, BAR)
        lines.append(f"{sign} {str(each.candidate):{width}}  {bar:{BAR}}  {each.capacity:.0f}")
    return "\n".join(lines)


def verdict(measurements: Sequence[Measurement], recommendation: Recommendation) -> str:
    """:returns: what is recommended and why, some lines"""
    noise = f"{100 * recommendation.noise:.0f} %"
    if recommendation.moved is None:
        return (
            "Recommended: nothing. The default was measured once only, so the noise is not known; give more --seconds."
        )
    first = [
        f"Noise: the default differed from itself by {100 * recommendation.moved:.1f} % between first and last;"
        f" differences below {noise} count as none."
    ]
    others = max((each.others for each in measurements if each.samples), default=0.0)
    if others >= 0.1:
        first.append(
            f"Other processes took up to {others:.1f} CPUs meanwhile; on a quiet machine the result is worth more."
        )
    if any(each.starved for each in measurements if each.samples):
        first.append(f"* {GENERATOR}: this server would have answered more.")
    if recommendation.unsure:
        first.append("Recommended: nothing. That is too much to tell; try again when nothing else runs here.")
        return "\n".join(first)
    if not recommendation.values:
        first.append(f"Recommended: the default ({recommendation.default}); nothing was better by more than the noise.")
        return "\n".join(first)
    first.append(
        f"Recommended: {recommendation.candidate}: {100 * recommendation.gain:.0f} % more than the default"
        f" ({recommendation.default})."
    )
    first += ["In heat.conf:", *(f"    {line}" for line in settings(recommendation))]
    return "\n".join(first)


def settings(recommendation: Recommendation) -> list[str]:
    """:returns: lines of a configuration file, of what differs from the default"""
    lines = []
    group = ""
    for (own, name), value in recommendation.values.items():
        if own != group:
            group = own
            lines.append(f"[{group}]")
        lines.append(f"{name} = {value}")
    return lines


def comments(measurements: Sequence[Measurement], recommendation: Recommendation, when: str, who: str) -> list[str]:
    """:returns: lines for the settings file: when, who, and what was measured"""
    return [f"{when}, {who}", "", *table(measurements, recommendation).splitlines(), *EXPLANATION.splitlines()]


def svg(measurements: Sequence[Measurement], recommendation: Recommendation, machine: str) -> str:
    """:returns: the plot as a picture: capacity as bars, the noise as a line across their ends"""
    found = [each for each in measurements if each.samples]
    most = max((each.capacity for each in found), default=1.0) * (1 + recommendation.noise)
    left, right, line = 220, 420, 26
    height = 60 + line * len(found)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right + 90}" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="10" y="20">Answers a second, {escape(machine)};'
        f" noise {100 * recommendation.noise:.0f} %</text>",
    ]
    for number, each in enumerate(found):
        top = 36 + line * number
        width = right * each.capacity / most
        unsure = width * recommendation.noise
        chosen = each.candidate == recommendation.candidate
        middle = top + 9
        parts.append(
            f'<text x="{left - 8}" y="{top + 13}" text-anchor="end"{_bold(chosen)}>{escape(str(each.candidate))}</text>'
            f'<rect x="{left}" y="{top}" width="{width:.1f}" height="18" fill="{"#2a7" if chosen else "#9ab"}"/>'
            f'<path d="M{left + width - unsure:.1f} {middle}H{left + width + unsure:.1f}" stroke="black"/>'
            f'<text x="{left + width + unsure + 6:.1f}" y="{top + 13}">{each.capacity:.0f}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bold(chosen: bool) -> str:
    return ' font-weight="bold"' if chosen else ""
