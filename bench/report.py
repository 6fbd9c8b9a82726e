"""Report: what a run found, as tables, a plot, and JSON."""

import dataclasses
import datetime
import json
import math
import os
import platform
import shutil
import subprocess

import peers
import place as places
import runner

# The plot: pixels.
WIDTH, LEFT, RIGHT, BAR, GAP, TOP_SPACE = 980, 170, 70, 11, 12, 64
COLORS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb"]
RATIOS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
US = "hrfs"


# ---- About the run ----

def about(arguments, command):
    fuse = sorted(name for name in os.listdir(os.path.join(peers.TOP, "subprojects")) if name.startswith("fuse-"))
    commit = subprocess.run(["git", "-C", peers.TOP, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True).stdout.strip()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "source": arguments.source,
        "log_on": places.type_of(places.disk_folder()),
        "transport": arguments.transport,
        "rounds": arguments.rounds,
        "versions": {
            "hrfs": commit or peers.first_line(peers.MOUNT_HRFS, "-V"),
            "libfuse": fuse[-1] if fuse else peers.first_line("pkg-config", "--modversion", "fuse3"),
            **{name: peers.first_line(name, "--version")
               for name in ("bindfs", "watchman", "fio", "git", "tar", "npm") if shutil.which(name)},
        },
    }


# ---- Tables ----

def table(head, rows):
    """Text of a table that is aligned and also Markdown. The first column is on the left, the others on the right."""
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]

    def line(cells):
        return "| " + " | ".join(str(cell).ljust(width) if i == 0 else str(cell).rjust(width)
                                 for i, (cell, width) in enumerate(zip(cells, widths))) + " |"
    rule = "|" + "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths)) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def number(value):
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio(found, workload, peer):
    """hrfs's time to the peer's; None where one of them is missing."""
    ours, theirs = found.get((workload, US)), found.get((workload, peer))
    return ours.median / theirs.median if ours and theirs else None


def verdicts(workload, found):
    for peer, limit in workload.limits.items():
        value = ratio(found, workload.name, peer)
        if value is not None:
            yield f"{'ok' if value <= limit else 'NO'} {value:.2f} of {limit:.2f} ({peer})"


def ratio_table(chosen, contenders, found):
    """Times of native and hrfs in seconds, hrfs's spread, and the ratio of hrfs's time to everybody else's."""
    others = [peer.name for peer in contenders if peer.name != US]
    rows = []
    for workload in chosen:
        cells = [workload.name]
        for peer in ("native", US):
            known = found.get((workload.name, peer))
            cells.append(f"{known.median:.3f} ±{known.spread:.0%}" if known else "-")
        for peer in others:
            value = ratio(found, workload.name, peer)
            cells.append(f"{value:.2f}" if value is not None else "-")
        rows.append(cells)
    return table(["workload", "native, s", "hrfs, s", *(f"hrfs/{name}" for name in others)], rows)


def verdict_table(chosen, found):
    rows = []
    for workload in chosen:
        for verdict in verdicts(workload, found):
            rows.append([workload.name, verdict])
    return table(["workload", "limit"], rows) if rows else ""


def limits_of(members):
    """What is to be reached, in words; a row is named where the limit is not for all."""
    words = []
    for column, limit in dict.fromkeys((figure.column, figure.limit) for figure in members if figure.limit):
        rows = [figure.row for figure in members if (figure.column, figure.limit) == (column, limit)]
        is_for_all = len(rows) == sum(figure.column == column for figure in members)
        words.append(f"{column}: {limit}" if is_for_all else f"{column} at {', '.join(rows)}: {limit}")
    return words


def figure_tables(figures):
    texts = []
    for group in dict.fromkeys(figure.group for figure in figures):
        members = [figure for figure in figures if figure.group == group]
        columns = list(dict.fromkeys(figure.column for figure in members))
        cells = {(figure.row, figure.column): figure for figure in members}
        units = {figure.column: figure.unit for figure in members}
        limits = limits_of(members)
        rows = []
        for row in dict.fromkeys(figure.row for figure in members):
            rows.append([row, *(number(cells[row, column].value) if (row, column) in cells else "-" for column in columns)])
        head = [f"{column}, {units[column]}" if units[column] else column for column in columns]
        text = f"{group}\n\n{table(['', *head], rows)}"
        if limits:
            text += "\n\nto be reached: " + "; ".join(limits)
        texts.append(text)
    return "\n\n".join(texts)


# ---- JSON ----

def write_json(path, facts, samples, figures, missing):
    content = {**facts, "missing": [list(row) for row in missing], "samples": [dataclasses.asdict(s) for s in samples],
               "figures": [dataclasses.asdict(f) for f in figures]}
    with open(path, "w", encoding="utf-8") as out:
        json.dump(content, out, indent=1)
        out.write("\n")


# ---- The plot ----

def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def text_at(x, y, text, anchor="start", color="#333", size=12):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}">{escape(text)}</text>'


def position(value):
    """Ratios on a logarithmic scale: twice as fast is as long as half as fast."""
    low, high = math.log(RATIOS[0]), math.log(RATIOS[-1])
    at = (math.log(min(max(value, RATIOS[0]), RATIOS[-1])) - low) / (high - low)
    return LEFT + at * (WIDTH - LEFT - RIGHT)


def draw_scale(height):
    parts = []
    for value in RATIOS:
        x = position(value)
        color, width = ("#333", 1.5) if value == 1 else ("#ddd", 1)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP_SPACE}" x2="{x:.1f}" y2="{height - 20}" '
                     f'stroke="{color}" stroke-width="{width}"/>')
        parts.append(text_at(x, height - 6, f"{value:g}", "middle", "#666", 11))
    return parts


def draw_bar(value, y, color):
    one, x = position(1), position(value)
    left, width = min(one, x), abs(one - x)
    label_x, anchor = (x - 4, "end") if value < 1 else (x + 4, "start")
    return [f'<rect x="{left:.1f}" y="{y}" width="{max(width, 1):.1f}" height="{BAR - 2}" fill="{color}"/>',
            text_at(label_x, y + BAR - 3, f"{value:.2f}", anchor, "#666", 10)]


def draw_legend(others):
    parts, x = [], LEFT
    for index, name in enumerate(others):
        parts.append(f'<rect x="{x}" y="36" width="10" height="10" fill="{COLORS[index % len(COLORS)]}"/>')
        parts.append(text_at(x + 14, 45, name, size=11))
        x += 30 + 7 * len(name)
    return parts


def write_plot(path, facts, chosen, contenders, found):
    """Bars from 1 to the ratio of hrfs's time to each peer's: to the left hrfs is faster."""
    others = [peer.name for peer in contenders if peer.name != US and
              any(ratio(found, workload.name, peer.name) is not None for workload in chosen)]
    parts, y = [], TOP_SPACE + GAP
    for workload in chosen:
        parts.append(text_at(LEFT - 10, y + BAR, workload.name, "end"))
        for index, name in enumerate(others):
            value = ratio(found, workload.name, name)
            if value is not None:
                parts += draw_bar(value, y, COLORS[index % len(COLORS)])
                y += BAR
        y += GAP
    height = y + 30
    title = f"Time of hrfs, with its log, to that of others: {facts['source']}, {facts['transport']}, {facts['date']}"
    with open(path, "w", encoding="utf-8") as out:
        out.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">\n'
                  f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n')
        lines = [text_at(LEFT, 22, title, size=14), *draw_legend(others), *draw_scale(height), *parts]
        out.write("\n".join(lines) + "\n</svg>\n")


# ---- All of it ----

def show(facts, chosen, contenders, samples, figures, missing):
    found = runner.summary(samples)
    print(f"{facts['date']}, Linux {facts['kernel']}, {facts['cores']} cores, source on {facts['source']}, "
          f"log on {facts['log_on']}, {facts['transport']}, {facts['rounds']} rounds\n$ {facts['command']}")
    print(", ".join(f"{name}: {version}" for name, version in facts["versions"].items()))
    if chosen:
        print(f"\n{ratio_table(chosen, contenders, found)}\n\n{verdict_table(chosen, found)}")
    if figures:
        print(f"\n{figure_tables(figures)}")
    if missing:
        print("\nNot run, or void:")
        for what, why in missing:
            print(f"  {what}: {why}")
