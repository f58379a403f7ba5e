# SPDX-License-Identifier: MIT
"""The results of `speed.py` as lines, as the README's table, and as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timing import FEW

Case = dict[str, Any]
Result = dict[str, Any]


def ratio(case: Case) -> tuple[str, float] | None:
    """Return the best rival and its median time over pygru's; None without rivals."""
    times = {name: t["median"] for name, t in case["times"].items()}
    own = times.pop("pygru")
    if not times:
        return None
    best = min(times, key=times.__getitem__)
    return best, times[best] / own


def seconds(value: float) -> str:
    """Return a duration with three digits and its unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def spread(t: dict[str, float]) -> str:
    """Return the middle half of the samples in percent of the median; of a few, the range."""
    if t["samples"] == 1:
        return "once"
    if t["samples"] >= FEW:
        return f"{100 * (t['high'] - t['low']) / t['median']:.0f} %"
    return f"{seconds(t['low'])}..{seconds(t['high'])}"


def line(case: Case) -> str:
    """Return one case as one line: medians with their spread, ratio, limits."""
    parts = [f"{name} {seconds(t['median'])} ({spread(t)})" for name, t in case["times"].items()]
    found = ratio(case)
    text = f"  {case['mode']:9} {case['shape']:9} " + ", ".join(parts)
    if found is not None:
        text += f" | {_times(found[1])} of {found[0]}"
    if "of_peak" in case:
        text += f" | {case['gflops']:.0f} GFLOP/s, {100 * case['of_peak']:.0f} % of peak"
    if "of_bandwidth" in case:
        text += f" | {100 * case['of_bandwidth']:.0f} % of read bandwidth"
    if "note" in case:
        text += f" | {case['note']}"
    if "overhead" in case:
        training, layers = (100 * case["overhead"][part] for part in ("training", "layers"))
        text += (
            f" | of a step {training:.0f} % optimiser, clipping, loss and bookkeeping, "
            f"{layers:.0f} % Python around the kernels"
        )
    return text


def markdown(results: list[Result]) -> str:
    """Return one table per thread count."""
    return "\n\n".join(_table(result) for result in results)


def _table(result: Result) -> str:
    names = list(result["versions"])
    heads = [f"{name} {result['versions'][name]}" for name in names]
    rows = [
        f"{result['machine']}; {result['threads']} thread(s), {result['isa']}, {result['dtype']}, "
        f"{result['cell']}. Median time of a call; the spread of pygru's and the best "
        "rival's samples; how many times faster than that rival; how much of the machine's own "
        "limit pygru reaches.",
        "",
        "| | " + " | ".join(heads) + " | spread | ratio | of the limit |",
        "|---" * (len(names) + 4) + "|",
    ]
    for case in result["cases"]:
        cells = [
            seconds(case["times"][name]["median"]) if name in case["times"] else "-"
            for name in names
        ]
        found = ratio(case)
        both = ["pygru", *([found[0]] if found else [])]
        cells.append(", ".join(_percent(case["times"][name]) for name in both))
        cells.append(f"**{_times(found[1])}**" if found else "-")
        cells.append(_limit(case))
        note = f" ({case['note']})" if "note" in case else ""
        rows.append(f"| {case['mode']} {case['shape']}{note} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _percent(t: dict[str, float]) -> str:
    """Return half the spread in percent of the median."""
    if t["samples"] == 1:
        return "once"
    return f"±{50 * (t['high'] - t['low']) / t['median']:.0f} %"


def _limit(case: Case) -> str:
    if "of_peak" in case:
        return f"{100 * case['of_peak']:.0f} % of peak"
    if "of_bandwidth" in case:
        return f"{100 * case['of_bandwidth']:.0f} % of bandwidth"
    return "-"


def _times(value: float) -> str:
    """Return a ratio as text."""
    return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"


def plot(results: list[Result], path: Path) -> None:
    """Draw how many times faster than the best rival each case is: a bar each, by mode."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = list(dict.fromkeys(
        (c["mode"], c["shape"]) for r in results for c in r["cases"] if ratio(c)
    ))  # fmt: skip
    if not rows:
        raise SystemExit("nothing to draw: no rival was timed")
    figure, axis = plt.subplots(figsize=(8, 1 + 0.3 * len(rows) * (1 + len(results)) / 2))
    colours = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")  # Okabe and Ito (2008)
    height, places, modes = 0.8 / len(results), [], [mode for mode, _ in rows]
    for i, mode in enumerate(modes):  # a gap where another mode begins
        places.append(i + 0.6 * len(set(modes[: i + 1])))
        if mode not in modes[:i]:
            axis.text(-0.17, places[-1], mode, transform=axis.get_yaxis_transform(), ha="right",
                      va="center", fontweight="bold")  # fmt: skip
    for k, result in enumerate(results):
        label: str | None = f"{result['threads']} thread(s)"
        for case in result["cases"]:
            found = ratio(case)
            if found is None:
                continue
            best, value = found
            at = places[rows.index((case["mode"], case["shape"]))]
            at += (k - (len(results) - 1) / 2) * height
            axis.barh(at, value - 1, 0.9 * height, left=1, color=colours[k % 4], label=label)
            label = None
            axis.annotate(f"{_times(value)} {best}", (max(1, value), at), (4, 0),
                          textcoords="offset points", va="center", fontsize=9)  # fmt: skip
    axis.set_yticks(places, [shape for _, shape in rows])
    axis.axvline(1, color="0.3", linewidth=1)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axis.margins(x=0.15, y=0.02)
    axis.invert_yaxis()
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.set_title(f"How many times faster than the fastest other library\n{results[0]['machine']}")
    if len(results) > 1:
        axis.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)
