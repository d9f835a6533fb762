"""What `saccade bench load` found, as JSON and, from that, as Markdown tables and SVG charts."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from saccade.benchmarks.common.plots import Line, bar_chart, line_chart, page
from saccade.benchmarks.common.report import provenance_line
from saccade.benchmarks.load.comparison import medians, ratios
from saccade.benchmarks.load.runs import Measured, Run

SATURATION = "inf"  # the label of the rate at which all requests come at once
_COLUMNS = {
    "requests_per_second": ("requests/s", "{:.2f}"),
    "goodput": ("goodput/s", "{:.2f}"),
    "ttft_p50_ms": ("TTFT p50", "{:.0f}"),
    "ttft_p99_ms": ("p99", "{:.0f}"),
    "e2e_p50_ms": ("E2E p50", "{:.0f}"),
    "e2e_p99_ms": ("p99", "{:.0f}"),
    "cpu_ms_per_request": ("CPU", "{:.0f}"),
    "memory_mib": ("MiB", "{:.0f}"),
}

Report = dict[str, Any]


def profile_report(measured: Measured) -> Report:
    """Of one profile, by rate: medians and rounds of every server, and the ratios of two."""
    report: Report = {}
    for label, of_rate in measured.runs.items():
        servers = {
            name: {"median": medians(runs), "rounds": [_plain(run) for run in runs]}
            for name, runs in of_rate.items()
        }
        report[label] = {"servers": servers}
        if len(of_rate) == 2:
            report[label]["ratios"] = {
                name: {**asdict(ratio), "text": ratio.text()}
                for name, ratio in ratios(of_rate).items()
            }
    return report


def _plain(run: Run) -> Report:
    """JSON has no infinity."""
    plain = asdict(run)
    return {**plain, "rate": SATURATION} if math.isinf(run.rate) else plain


def flat(profiles: Mapping[str, Report]) -> dict[str, float]:
    """The numbers of the last line: ratios of two servers, or what one of them does."""
    numbers: dict[str, float] = {}
    for profile, report in profiles.items():
        for label, point in report["rates"].items():
            values = {name: one["value"] for name, one in point.get("ratios", {}).items()}
            if not values:
                (server,) = point["servers"].values()
                values = server["median"]
            shown = [name for name in _COLUMNS if name in values]
            if label != SATURATION:
                shown = [name for name in shown if name.startswith(("ttft", "e2e"))]
            else:
                shown = ["requests_per_second"]
            suffix = "saturation" if label == SATURATION else label.removesuffix("%")
            key = f"{profile.replace('-', '_')}_{suffix}"
            numbers |= {f"{key}_{name}": values[name] for name in shown}
    return numbers


def markdown(report: Report) -> str:
    """A table for each profile, and where its numbers are from."""
    lines = []
    for name, profile in report["profiles"].items():
        lines += [f"**{name}**: {profile['told']}", "", *_table(profile["rates"]), ""]
        lines += [f"{profile['checked']}.", ""]
    lines.append(
        "Rates are offered requests a second, a percentage is of the saturation, what comes of all "
        "requests at once (`inf`); times are milliseconds, CPU milliseconds a request; medians "
        f"over {report['arguments']['rounds']} rounds, ratios with their 95 % confidence intervals."
    )
    lines += ["", provenance_line(report)]
    return "\n".join(lines) + "\n"


_HEADLINE = {
    "requests/s at saturation": (SATURATION, "requests_per_second"),
    **{
        f"{metric.upper()} {share} at {rate}": (rate, f"{metric}_{share}_ms")
        for metric in ("ttft", "e2e")
        for share in ("p50", "p99")
        for rate in ("50%", "80%")
    },
}


def headline(report: Report) -> str:
    """One row for each profile: ratios of the first server over the second, with intervals.

    Of a single server all that there is.
    """
    if len(report["servers"]) != 2:
        return markdown(report)
    columns = {
        title: key
        for title, key in _HEADLINE.items()
        if any(_ratio(profile, *key) for profile in report["profiles"].values())
    }
    first, second = report["servers"]
    lines = [
        f"| {first} over {second} | " + " | ".join(columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for name, profile in report["profiles"].items():
        cells = [_ratio(profile, *key) for key in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", provenance_line(report)]) + "\n"


def _ratio(profile: Report, label: str, metric: str) -> str:
    ratios = profile["rates"].get(label, {}).get("ratios", {})
    return str(ratios[metric]["text"]) if metric in ratios else ""


def _table(rates: Mapping[str, Report]) -> list[str]:
    points = [one["median"] for point in rates.values() for one in point["servers"].values()]
    columns = [name for name in _COLUMNS if any(name in point for point in points)]
    lines = [
        "| rate | server | " + " | ".join(_COLUMNS[name][0] for name in columns) + " |",
        "|---|---|" + "---:|" * len(columns),
    ]
    for label, point in rates.items():
        for name, server in point["servers"].items():
            shown = f"{label} ({server['rounds'][0]['rate']:.2f})" if "%" in label else label
            cells = [
                _COLUMNS[column][1].format(server["median"][column])
                if column in server["median"]
                else ""
                for column in columns
            ]
            lines.append(f"| {shown} | {name} | " + " | ".join(cells) + " |")
        if found := point.get("ratios"):
            cells = [found[column]["text"] if column in found else "" for column in columns]
            lines.append("| | ratio | " + " | ".join(cells) + " |")
    return lines


def svg(report: Report) -> str:
    """Latency against rate for each profile, and the saturation of all, as one file."""
    charts = []
    for name, profile in report["profiles"].items():
        rates = {label: one for label, one in profile["rates"].items() if label != SATURATION}
        if rates:
            for title, metric in (("time to first token", "ttft"), ("whole request", "e2e")):
                lines = _lines(rates, metric)
                charts.append(line_chart(f"{name}: {title}", "requests/s offered", "ms", lines))
    saturation = {
        name: {
            server: one["median"]["requests_per_second"]
            for server, one in profile["rates"][SATURATION]["servers"].items()
        }
        for name, profile in report["profiles"].items()
        if SATURATION in profile["rates"]
    }
    if saturation:
        charts.append(bar_chart("saturation", "req/s", saturation))
    return page(charts)


def _lines(rates: dict[str, Any], metric: str) -> list[Line]:
    servers = list(dict.fromkeys(name for point in rates.values() for name in point["servers"]))
    return [
        Line(
            f"{server[:8]} {share}",
            [
                (one["rounds"][0]["rate"], one["median"][f"{metric}_{share}_ms"])
                for point in rates.values()
                for one in (point["servers"][server],)
            ],
            number,
            dashed=share == "p99",
        )
        for number, server in enumerate(servers)
        for share in ("p50", "p99")
    ]
