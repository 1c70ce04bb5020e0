"""What the benchmark prints, and keeps: Markdown tables in RESULTS/<cpu>.md, a chart for the README in RESULTS/<cpu>.svg.

Both are written after each part, so that a run that is cut leaves what it has measured; the file says then what is missing.
"""
import datetime
import html
import os
import re
import time

COLOURS = {"float32": "#8a8f98", "bfloat16": "#5b8def", "int8": "#2a9d62"}


def cpu_name():
    with open("/proc/cpuinfo") as cpu:
        fields = dict(line.split(":", 1) for line in cpu.read().split("\n\n")[0].split("\n") if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    name = fields.get("model name", "unknown CPU")
    return f"{name} (family {fields['cpu family']}, model {fields['model']})" if "cpu family" in fields else name


class Report:
    def __init__(self, folder, isa, parts, kept):
        """parts: names of what will be done() one after the other; kept: in files, otherwise printed only."""
        self.lines = []
        self.missing, self.kept, self.drawn = list(parts), kept, None
        self.began = self.last = time.monotonic()
        self.minutes = []
        self.load = os.getloadavg()[0]
        held = f", held to {isa}" if isa else ""
        self.path = os.path.join(folder, re.sub(r"[^a-z0-9]+", "-", (cpu_name() + held).lower()).strip("-"))
        self.line(f"# distil and its rivals on {cpu_name()}{held}")
        self.line(f"\n{datetime.date.today()}, one core unless said.  Times are processor time, the least of all rounds; of two "
                  "cores, the server's first call, short texts and cancels the time that passes.")

    def line(self, text=""):
        print(text, flush=True)
        self.lines.append(text)

    def section(self, title):
        self.line(f"\n## {title}\n")

    def table(self, head, rows):
        """The first column is text, numbers of the others align right."""
        rows = [[f"{x:.4g}" if isinstance(x, float) else str(x) for x in row] for row in rows]
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        numeric = [all(re.match(r"[-0-9.]*( %|x)?$", row[i]) for row in rows) for i in range(len(head))]
        self.line("| " + " | ".join(x.ljust(w) for x, w in zip(head, widths)) + " |")
        self.line("|" + "|".join("-" * (w + 1) + (":" if n else "-") for w, n in zip(widths, numeric)) + "|")
        for row in rows:
            self.line("| " + " | ".join(x.rjust(w) if n else x.ljust(w) for x, w, n in zip(row, widths, numeric)) + " |")

    def chart(self, title, bars):
        """bars: (label, precision, ms, ours)."""
        self.drawn = chart(title, bars)

    def done(self, part):
        """A part is complete: what there is so far is written."""
        now = time.monotonic()
        self.minutes.append(f"{part} {(now - self.last) / 60:.1f}")
        self.last = now
        self.missing.remove(part)
        print(f"\n({self.minutes[-1]} minutes)", flush=True)
        self.write()

    def write(self):
        if not self.kept:
            return
        end = [f"\nLoad of the machine: {self.load:.1f} at the beginning, {os.getloadavg()[0]:.1f} at the end; beyond 1 or 2, times that pass "
               "(two cores, first call, short text, cancel) are those of a busy machine.",
               f"\nMinutes: {(time.monotonic() - self.began) / 60:.0f} in all; " + ", ".join(self.minutes) + "."]
        if self.missing:
            end.append("\n**This run was cut.** Not measured: " + ", ".join(self.missing) + ".")
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path + ".md", "w", encoding="utf-8") as file:
            file.write("\n".join(self.lines + end) + "\n")
        if self.drawn:
            with open(self.path + ".svg", "w", encoding="utf-8") as file:
                file.write(self.drawn)
        print(f"written: {self.path}.md{' and .svg' if self.drawn else ''}", flush=True)


def chart(title, bars):
    """Horizontal bars, grouped by precision in the order given; ours in colour, rivals pale."""
    left, width, step = 250, 420, 20
    longest = max(ms for _, _, ms, _ in bars)
    parts, y, group = [], 44, None
    for label, precision, ms, ours in bars:
        if precision != group:
            y += 10 if group else 0
            group = precision
        length = max(2, width * ms / longest)
        weight = "bold" if ours else "normal"
        parts.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end" font-weight="{weight}">{html.escape(label)}</text>'
                     f'<rect x="{left}" y="{y}" width="{length:.1f}" height="15" rx="2" fill="{COLOURS[precision]}"'
                     f' fill-opacity="{1 if ours else 0.35}"/>'
                     f'<text x="{left + length + 6:.1f}" y="{y + 12}">{ms:.3g} ms</text>')
        y += step
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 80}" height="{y + 12}" font-family="sans-serif" '
            f'font-size="12" fill="#777"><text x="8" y="22" font-size="14" font-weight="bold">{html.escape(title)}</text>'
            + "".join(parts) + "</svg>\n")
