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
        text += f" | {found[1]:.2f}x of {found[0]}"
    if "of_peak" in case:
        text += f" | {case['gflops']:.0f} GFLOP/s, {100 * case['of_peak']:.0f} % of peak"
    if "of_bandwidth" in case:
        text += f" | {100 * case['of_bandwidth']:.0f} % of read bandwidth"
    if "note" in case:
        text += f" | {case['note']}"
    if "overhead" in case:
        text += f" | of a step with clipping {100 * case['overhead']:.0f} % outside the kernels"
    return text


def markdown(results: list[Result]) -> str:
    """Return one table per thread count, times in microseconds."""
    return "\n\n".join(_table(result) for result in results)


def _table(result: Result) -> str:
    names = list(result["versions"])
    heads = [f"{name} {result['versions'][name]}" for name in names]
    rows = [
        f"{result['machine']}; {result['threads']} thread(s), {result['isa']}, {result['dtype']}, "
        f"{result['cell']}. Median microseconds per call; the spread of pygru's and the best "
        "rival's samples; how many times faster than that rival; how much of the machine's own "
        "limit pygru reaches.",
        "",
        "| | " + " | ".join(heads) + " | spread | ratio | of the limit |",
        "|---" * (len(names) + 4) + "|",
    ]
    for case in result["cases"]:
        cells = [
            _time(case["mode"], case["times"][name]["median"]) if name in case["times"] else "-"
            for name in names
        ]
        found = ratio(case)
        both = ["pygru", *([found[0]] if found else [])]
        cells.append(", ".join(_percent(case["times"][name]) for name in both))
        cells.append(f"**{found[1]:.2g}x**" if found else "-")
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


def _time(mode: str, value: float) -> str:
    """Return microseconds; of a whole experiment, seconds."""
    if mode == "experiment":
        return f"{value:.3g} s"
    micros = 1e6 * value
    return f"{micros:.2g}" if micros < 10 else f"{micros:,.0f}"


def plot(results: list[Result], path: Path) -> None:
    """Draw how many times faster than the best rival each case is, one panel per mode."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    modes = list(dict.fromkeys(c["mode"] for r in results for c in r["cases"] if ratio(c)))
    if not modes:
        raise SystemExit("nothing to draw: no rival was timed")
    widths = [
        max(2, len({c["shape"] for r in results for c in r["cases"] if c["mode"] == m}))
        for m in modes
    ]
    figure, axes = plt.subplots(
        1,
        len(modes),
        figsize=(2 + sum(widths) * (0.38 + 0.25 * len(results)), 4),
        squeeze=False,
        sharey=True,
        width_ratios=widths,
    )
    colours = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")  # Okabe and Ito (2008)
    for axis, mode in zip(axes[0], modes, strict=True):
        shapes = list(
            dict.fromkeys(c["shape"] for r in results for c in r["cases"] if c["mode"] == mode)
        )
        for k, result in enumerate(results):
            ratios = {c["shape"]: ratio(c) for c in result["cases"] if c["mode"] == mode}
            width = 0.8 / len(results)
            for i, shape in enumerate(shapes):
                found = ratios.get(shape)
                if found is None:
                    continue
                at = i + (k - (len(results) - 1) / 2) * width
                axis.bar(at, found[1] - 1, width * 0.92, bottom=1, color=colours[k % 4])
                axis.annotate(
                    f"{found[1]:.2g}x\n{found[0]}",
                    (at, max(1, found[1])),
                    xytext=(0, 2),
                    textcoords="offset points",
                    ha="center",
                    fontsize=5.5,
                )
        axis.axhline(1, color="0.3", linewidth=1, linestyle="--")
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}x")
        axis.set_xticks(range(len(shapes)), shapes, rotation=40, ha="right")
        axis.set_xlim(-0.7, len(shapes) - 0.3)
        axis.set_title(mode)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("best rival's time / pygru's")
    axes[0][0].margins(y=0.2)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colours[k % 4]) for k in range(len(results))]
    labels = [f"{result['threads']} thread(s)" for result in results]
    if len(results) > 1:
        figure.legend(handles, labels, loc="upper left", ncols=4, frameon=False)
    figure.suptitle(
        f"Times faster than the fastest other library ({results[0]['machine']})", fontsize=10
    )
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
