"""The numbers of docs/paper_parity.md, written from benchmarks/results/ so that each stands in one
place.

python -m benchmarks.paper.parity rewrites the part between the two marks
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

from benchmarks.paper.sets import SPIKES_A_BIN
from benchmarks.record import RESULTS

PAGE = RESULTS.parents[1] / "docs" / "paper_parity.md"
BEGIN, END = "<!-- numbers: python -m benchmarks.paper.parity -->", "<!-- end of numbers -->"
METHODS = ("low_rank", "linear", "input", "shared", "single", "ceiling")
NAMES = {"low_rank": "low rank", "single": "single session", "ceiling": "true dynamics"}
PAPER = {  # of held-out sessions by n_s, where the paper gives them (Tables 1 and 2)
    ("duffing-hopf", "k30"): {
        "low_rank": {"1": 0.69, "8": 0.78, "16": 0.87},
        "linear": {"1": 0.68, "8": 0.79, "16": 0.74},
        "input": {"1": 0.59, "8": 0.77, "16": 0.74},
        "shared": {"1": -0.31, "8": -0.34, "16": -0.13},
        "single": {"1": 0.47, "8": 0.79, "16": 0.79},
    },
    ("hopf", "k20"): {
        "low_rank": {"1": 0.64, "8": 0.69},
        "linear": {"1": -0.10, "8": 0.55},
        "input": {"1": 0.61, "8": 0.56},
        "shared": {"1": 0.32, "8": 0.32},
        "single": {"1": 0.27, "8": 0.77},
    },
    ("hopf", "rec"): {
        "low_rank": {"1": 0.85, "8": 0.89},
        "linear": {"1": 0.84, "8": 0.89},
        "input": {"1": 0.86, "8": 0.89},
        "shared": {"1": 0.83, "8": 0.89},
        "single": {"1": 0.80, "8": 0.88},
    },
}


def figures_of(name: str) -> dict | None:
    """{method: {measure: …}} of an experiment, or None where it was not run."""
    path = RESULTS / f"paper-{name}.json"
    return json.loads(path.read_text())[name] if path.exists() else None


def shown(pair: list | None) -> str:
    """mean ± standard error."""
    if pair is None:
        return "-"
    mean, sem = pair
    return f"{mean:.3f}" if sem is None else f"{mean:.3f} ± {sem:.3f}"


def titled(title: str, head: list[str], rows: list[list[str]]) -> list[str]:
    """A table under its title."""
    return [
        "",
        f"**{title}**",
        "",
        *[f"| {' | '.join(each)} |" for each in (head, ["---"] * len(head), *rows)],
    ]


def named(method: str) -> str:
    return NAMES.get(method, method.replace("_", " "))


def by_shots(name: str, measure: str, title: str) -> list[str]:
    """New sessions by n_s, a row a method, with the paper's number behind ours."""
    figures = figures_of(name)
    if figures is None:
        return []
    shots, rows = list(figures["low_rank"][measure]), []
    for method in METHODS:
        values, paper = figures[method][measure], PAPER.get((name, measure), {}).get(method, {})
        cells = [shown(values[n] if isinstance(values, dict) else values) for n in shots]
        said = [f" ({paper[n]:.2f})" if n in paper else "" for n in shots]
        rows.append([named(method), *map("".join, zip(cells, said, strict=True))])
    return titled(title, ["held-out sessions, n_s =", *shots], rows)


def training(name: str, title: str, *measures: str) -> list[str]:
    """Training sessions, a row a method."""
    figures = figures_of(name)
    if figures is None:
        return []
    known = [method for method in METHODS if measures[0] in figures[method]]
    rows = [
        [named(method), *[shown(figures[method].get(measure)) for measure in measures]]
        for method in known
    ]
    return titled(title, ["training sessions", *[each.split("_", 1)[1] for each in measures]], rows)


def poisson() -> list[str]:
    figures = figures_of("poisson")
    if figures is None:
        return []
    own, shared, ceiling, rows = figures["low_rank"], figures["shared"], figures["ceiling"], []
    for n, spikes in product((8, 20), SPIKES_A_BIN):
        key = f"M{n}_{spikes}_"
        parts = [
            own[key + measure] for measure in ("pooled_k20", "k20", "abs_spearman", "pooled_k30")
        ]
        parts += [shared[key + "pooled_k30"], ceiling[key + "pooled_k20"]]
        rows.append([str(n), str(spikes), *map(shown, parts)])
    head = [
        "cycles",
        "spikes a bin",
        "k20, sessions together",
        "k20, mean of sessions",
        "Spearman of e",
        "k30 together",
    ]
    head += ["… shared dynamics", "true dynamics, k20"]
    return titled("Spikes: forecast rates against true rates", head, rows)


def coverage() -> list[str]:
    figures = figures_of("coverage")
    if figures is None:
        return []
    kinds, rows = {"": "calibrated", "uncalibrated_": "process noise of the ELBO"}, []
    for name, (kind, title) in product(("hopf", "duffing-hopf"), kinds.items()):
        levels = figures["low_rank"][f"{name}_{kind}observations"]
        rows.append([name, title, *[f"{mean:.1f} ± {sem:.1f}" for mean, sem in levels.values()]])
    return titled(
        "Coverage [%] of forecast intervals",
        ["held-out sessions, 8 trials", "", "50", "80", "90", "95"],
        rows,
    )


def rank() -> list[str]:
    figures = figures_of("rank")
    if figures is None:
        return []
    processes = {
        method.removeprefix("rank_"): each
        for method, each in figures.items()
        if method != "ceiling"
    }
    rows = [
        [name, shown(each["train_k20"]), shown(each["k20"]["8"])]
        for name, each in processes.items()
    ]
    return titled(
        "Rank (Fig. 15)", ["rank", "k20, training sessions", "k20, new sessions, n_s = 8"], rows
    )


def pretraining() -> list[str]:
    figures = figures_of("small-pretraining")
    if figures is None:
        return []
    few = {method: each["k20"] for method, each in figures.items() if method != "ceiling"}
    rows = [
        [named(method), *[shown(values[n]) for n in ("1", "8")]] for method, values in few.items()
    ]
    return titled("Few sessions to pretrain on (Fig. 17)", ["", "k20, n_s = 1", "8"], rows)


def embeddings() -> list[str]:
    figures = figures_of("embedding-vs-trials")
    if figures is None:
        return []
    names = {"low_rank": "search, new sessions", "product": "product of q(e), training sessions"}
    kinds = {"spread": "SD over disjoint draws", "sd": "SD reported"}
    shots = list(figures["low_rank"]["sd"])
    rows = [
        [names[method], title, *[shown(figures[method][kind][n]) for n in shots]]
        for method, (kind, title) in product(names, kinds.items())
    ]
    return titled(
        "How sure e is (Fig. 14), in SDs between training sessions", ["", "trials:", *shots], rows
    )


def maze() -> list[str]:
    path = RESULTS / "maze-methods.json"
    if not path.exists():
        return []
    figures = json.loads(path.read_text())["mean_sem"]
    measures = (
        "reconstruction_r2",
        "reconstruction_r2_own_labels",
        "forecast_r2",
        "forecast_r2_own_labels",
    )
    rows = [
        [n, named(method), *[shown(values.get(measure)) for measure in measures]]
        for n, methods in figures.items()
        for method, values in methods.items()
    ]
    head = ["n_s", "", "reconstruction", "… own labels", "forecast", "… own labels"]
    return titled("Maze, pseudo-sessions: r² of hand velocity", head, rows)


def numbers() -> str:
    """All tables, of what was run."""
    of_twenty = ("M20_rec", "M20_k20", "M20_k50", "M20_abs_spearman", "M20_spearman_e0")
    ahead = ("train_rec", "train_k10", "train_k20", "train_k30")
    parts = [
        *training("motivating", "Two limit cycles (Fig. 2)", "M2_rec", "M2_k20", "M2_k50"),
        *training("motivating", "Twenty limit cycles (Fig. 3)", *of_twenty),
        *by_shots("motivating", "k50", "Speed 4.1 from one trial (App. A; paper .94)"),
        *training("hopf", "Hopf (Fig. 10)", *ahead),
        *by_shots("hopf", "rec", "Hopf, reconstruction (Table 2; the paper's number in brackets)"),
        *by_shots("hopf", "k20", "Hopf, 20 bins ahead (Table 2)"),
        *training("duffing-hopf", "Duffing and Hopf (Fig. 4)", *ahead),
        *by_shots("duffing-hopf", "k30", "Duffing and Hopf, 30 bins ahead (Table 1)"),
        *poisson(),
        *coverage(),
        *embeddings(),
        *rank(),
        *pretraining(),
        *maze(),
    ]
    return "\n".join(parts).strip()


def page(old: str) -> str:
    """The page with its numbers renewed."""
    before, after = old.split(BEGIN)[0], old.split(END)[1]
    return f"{before}{BEGIN}\n\n{numbers()}\n\n{END}{after}"


if __name__ == "__main__":
    Path(PAGE).write_text(page(PAGE.read_text()))
