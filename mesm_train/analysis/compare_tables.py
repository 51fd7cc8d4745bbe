"""The tables of a comparison: a row for each system, then the trivial baselines, then the published rows."""

from statistics import fmean

from mesm_data.errors import InputError
from mesm_train.analysis.compare import Comparison, mean_baselines
from mesm_train.analysis.published import PUBLISHED
from mesm_train.analysis.run_records import METRICS
from mesm_train.analysis.systems import System
from mesm_train.analysis.tables import Table, plus_minus
from mesm_train.evaluation.score_values import mean_of

BASELINE_NAMES = {
    "always_yes": "always yes", "always_no": "always no", "prior": "prior (random)", "majority": "majority class",
    "mean": "always the mean", "median": "always the median",
}  # fmt: skip
PUBLISHED_SPLIT = "paper"


def summary_table(comparison: Comparison, *, paper: bool = False) -> Table:
    """A row for each system: all metrics, costs and tests; then the trivial baselines, then the published rows."""
    specs = [METRICS[name] for name in comparison.metrics]
    head = ("system", "runs", *(spec.title for spec in specs), "pooled " + METRICS[comparison.metric].title,
            "parameters", "M MAC", "train s", "Δ [95 %]", "p (Holm)", "Δ runs")  # fmt: skip
    rows = [_system_row(comparison, system) for system in comparison.systems]
    blank = ("",) * 7
    for name, values in mean_baselines(comparison).items():
        cells = [plus_minus(values.get(metric), None) for metric in comparison.metrics]
        rows.append((BASELINE_NAMES.get(name, name), "–", *cells, *blank))
    notes = _notes(comparison)
    if paper:
        published_rows, sentence = _published(comparison)
        notes = [*notes, sentence]
        for name, scores in published_rows.items():
            cells = [plus_minus(scores.get(metric), None) for metric in comparison.metrics]
            rows.append((f"{name} (published)", "1", *cells, *blank))
    return Table(title=_title(comparison), head=head, rows=rows, notes=notes)


def cv_table(comparison: Comparison) -> Table:
    """Averaged and pooled scores of each variant of a cross-validation, with all standard deviations."""
    rows = []
    for system in comparison.systems:
        for name in comparison.metrics:
            e = system.estimate(name)
            spread = [plus_minus(value, None) for value in (e.mean, e.sd, e.sd_folds, e.sd_seeds)]
            title = METRICS[name].title
            rows.append((system.name, title, *spread, plus_minus(e.pooled, e.pooled_sd), _constant(comparison, name)))
    head = ("system", "metric", "averaged", "sd", "sd folds", "sd seeds", "pooled", "best baseline")
    notes = [
        *_notes(comparison),
        "averaged: the mean over all runs. sd: over all runs; sd folds: of the folds' means; sd seeds: of the seeds' "
        "means.",
    ]
    return Table(title=_title(comparison), head=head, rows=rows, notes=notes)


def _constant(comparison: Comparison, metric: str) -> str:
    values = {name: of.get(metric) for name, of in mean_baselines(comparison).items()}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return "–"
    best = (min if METRICS[metric].lower_is_better else max)(known, key=lambda name: known[name])
    return f"{known[best]:.3f} ({BASELINE_NAMES.get(best, best)})"


def class_table(comparison: Comparison, *, paper: bool = False) -> Table:
    """Systems × classes (or numbers) for the comparison's metric."""
    outputs, metric = comparison.first_run.outputs, comparison.metric
    rows = []
    for system in comparison.systems:
        if system.runs[0].outputs != outputs or METRICS[metric].table == "exclusive":
            continue
        estimate = system.estimate(metric)
        values = [*system.by_output(metric), (estimate.mean, estimate.sd)]
        rows.append((system.name, *(plus_minus(*value) for value in values)))
    by_run = [run.scores["numbers" if run.kind == "number" else "classes"] for run in comparison.systems[0].runs]
    for name, mean in mean_baselines(comparison).items():
        cells = [
            mean_of(scores[output]["baselines"].get(name, {}).get(metric) for scores in by_run) for output in outputs
        ]
        if any(cell is not None for cell in cells):
            rows.append(
                (
                    BASELINE_NAMES.get(name, name),
                    *(plus_minus(cell, None) for cell in cells),
                    plus_minus(mean.get(metric), None),
                )
            )
    if paper:
        for name, pairs in _published_pairs(comparison, metric).items():
            rows.append((f"{name} (published)", *(f"{value:.3f}" for value in pairs)))
    spec = METRICS[metric]
    title = f"{spec.title} by {'number' if spec.table == 'numbers' else 'class'}: mean ± standard deviation over runs"
    return Table(title=title, head=("system", *outputs, "mean"), rows=rows, notes=[f"{spec.title}: {spec.formula}."])


def _system_row(comparison: Comparison, system: System) -> tuple[str, ...]:
    first, estimates = system.runs[0], {name: system.estimate(name) for name in comparison.metrics}
    seconds = fmean(float(run.results["training"]["seconds"]) for run in system.runs)
    macs, main = first.mega_macs, estimates[comparison.metric]
    difference, p = comparison.tests.get(system.name, (None, None))
    mark = " *" if comparison.caveats[system.name] else ""
    return (
        f"{system.name}{mark}",
        f"{len(system.folds)}×{len(system.seeds)}",
        *(plus_minus(estimates[name].mean, estimates[name].sd) for name in comparison.metrics),
        plus_minus(main.pooled, main.pooled_sd),
        f"{first.results['model']['parameters']:,}".replace(",", " "),
        "–" if macs is None else f"{macs:.0f}",
        f"{seconds:.0f}",
        "–" if difference is None else f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]",
        "–" if p is None else f"{p:.4f}",
        _paired(comparison, system),
    )


def _paired(comparison: Comparison, system: System) -> str:
    pairs = comparison.pairs(system)
    if pairs is None or pairs.sd is None:
        return "–"
    return f"{pairs.mean:+.3f} ± {pairs.sd:.3f} ({pairs.better}/{pairs.count})"


def _title(comparison: Comparison) -> str:
    facts, system = comparison.first_run.provenance, comparison.systems[0]
    count = sum(run.scores["n"] for run in system.runs if run.seed == system.seeds[0])
    folds = sorted({run.fold for run in comparison.systems[0].runs})
    split = folds[0] if len(folds) == 1 else f"{len(folds)} folds"
    corpus, view = facts["dataset"]["corpus"], facts["labels"]["view"]
    return f"{corpus}, view {view}, split {split}, {count} test utterances"


def _notes(comparison: Comparison) -> list[str]:
    notes = [f"{METRICS[name].title}: {METRICS[name].formula}." for name in comparison.metrics]
    notes.append(
        "runs: folds × seeds; mean ± standard deviation over runs. pooled: the predictions of all folds together, mean "
        "± standard deviation over seeds. M MAC: million multiply-adds of a forward pass over the few utterances "
        "that the report shows."
    )
    if comparison.tests:
        notes.append(
            f"Δ: pooled {METRICS[comparison.metric].title} minus that of {comparison.systems[0].name} on the same test "
            "utterances, with the 95 % interval of the paired bootstrap; p: approximate randomisation, corrected by "
            f"Holm (comparisons: {len(comparison.tests)}). Both resample utterances, not training."
        )
        notes += _unequal_seeds(comparison)
        notes.append(
            f"Δ runs: the difference from the run of {comparison.systems[0].name} with the same fold and seed, mean ± "
            "standard deviation, and in how many of them the system is better. No test: runs of one fold share their "
            "data."
        )
        notes += _single_seeds(comparison)
    notes += [_leaks(comparison)]
    for name, sentences in comparison.caveats.items():
        if sentences:
            notes.append(f"* NOT COMPARABLE: {name} has {' and '.join(sentences)} than {comparison.systems[0].name}.")
    if any(run.provenance["dataset"].get("synthetic") for system in comparison.systems for run in system.runs):
        notes.append("SYNTHETIC data: these numbers say nothing about people and stand beside no published number.")
    skipped = {run.results.get("undetected") for system in comparison.systems for run in system.runs}
    if "skip" in skipped:
        names = [system.name for system in comparison.systems if system.runs[0].results.get("undetected") == "skip"]
        notes.append(f"Crops without a detected face are left out in {', '.join(names)}.")
    return notes


def _single_seeds(comparison: Comparison) -> list[str]:
    """The interval and p are about two trained models; the rounding of another CPU moved the demo's F1 by .09."""
    single = [system.name for system in comparison.systems if len(system.seeds) == 1]
    if not single:
        return []
    return [
        f"ONE SEED: {', '.join(single)}. Δ and p compare the trained models, not what they are examples of: another "
        "seed, or the rounding of another machine, can move a score as far. `mesm-train cv --seeds 5` trains more."
    ]


def _unequal_seeds(comparison: Comparison) -> list[str]:
    """Where Δ is not the difference of two numbers in the table."""
    first = comparison.systems[0]
    tested = [(system.name, len(system.seeds)) for system in comparison.systems if system.name in comparison.tests]
    return [
        f"{first.name} has {len(first.seeds)} seeds and {name} {seeds}: Δ and p of {name} take the first "
        f"{min(len(first.seeds), seeds)} of each, so Δ is not the difference of the pooled scores."
        for name, seeds in tested
        if seeds != len(first.seeds)
    ]


def _leaks(comparison: Comparison) -> str:
    counts = [run.provenance["split"].get("leaks", {}) for run in comparison.systems[0].runs]
    most = {what: max((of.get(what, 0) for of in counts), default=0) for what in ("speakers", "dialogs", "overlaps")}
    if not any(most.values()):
        return "The parts of the split share no speaker, no dialog and no moment."
    return (
        f"The parts of a split share up to {most['speakers']} speakers, {most['dialogs']} dialogs and "
        f"{most['overlaps']} overlapping pairs of utterances."
    )


def _published(comparison: Comparison) -> tuple[dict[str, dict[str, float | None]], str]:
    facts = comparison.first_run.provenance
    corpus, view, split = facts["dataset"]["corpus"], facts["labels"]["view"].split("+")[0], facts["split"]
    table = PUBLISHED.get(corpus)
    if table is None or view != "six":
        raise InputError(f"--paper: there are no published rows of {corpus} with the label view {view}")
    differences = []
    if facts["dataset"].get("synthetic"):
        differences.append("the data here are synthetic")
    if split["name"] != PUBLISHED_SPLIT:
        differences.append(f"the split here is {split['name']}, theirs is {PUBLISHED_SPLIT}")
    missing = sum(split.get("missing", {}).values())
    if missing:
        differences.append(f"{missing} utterances of the lists are missing here")
    sentence = (
        f"Published rows ({table.reference}): other data or another split, so not comparable: {'; '.join(differences)}."
        if differences
        else f"Published rows ({table.reference}): the same utterances in the same split; one run each, without seeds."
    )
    sentence += " †: re-run by its authors."
    rows: dict[str, dict[str, float | None]] = {}
    for model in table.rows:
        accuracy, f1 = table.scores(model)[-1]
        rows[model] = {table.accuracy: accuracy, "f1": f1}
    return rows, sentence


def _published_pairs(comparison: Comparison, metric: str) -> dict[str, list[float]]:
    table = PUBLISHED[comparison.first_run.provenance["dataset"]["corpus"]]
    index = {table.accuracy: 0, "f1": 1}.get(metric)
    if index is None:
        return {}
    return {model: [pair[index] for pair in table.scores(model)] for model in table.rows}
