"""The report as Markdown."""

from collections.abc import Sequence
from typing import Any

COLUMNS = {
    "parity": ("kind", "device", "precision", "engine", "logit_error", "gradient_cosine", "sites_alike", "passed"),
    "training": ("kind", "updates", "first_gap", "largest_gap", "end_ratio", "passed"),
    "streams": (
        "utterances", "precision", "variant", "forward", "both", "of_fe2e", "card", "card_of_fe2e", "launches",
        "mac_ratio", "peak_gb",
    ),
    "convolution": ("layer", "sites", "forward", "of_input", "of_weight"),
    "compiled": (
        "module", "eager_ms", "compiled_ms", "graphs_ms", "compiled_ratio", "graphs_ratio", "eager_launches",
        "compiled_launches", "graphs_launches", "compiled_first_s", "graphs_first_s", "compiled_difference",
        "graphs_difference",
    ),
    "steps": (
        "kind", "batch", "engine", "seconds", "data_wait", "card", "idle", "launches", "samples_per_s", "mfu",
        "memory_gb",
    ),
}  # fmt: skip
COLUMNS["compiled_steps"] = COLUMNS["steps"]
MEANING = {
    "parity": "Published sizes, training mode, against float64 on the CPU: root mean square error of the logits over "
    "their own, cosine of all gradients, the least share of sites that a block chooses alike.",
    "oracle": "tests/models/test_card.py.",
    "training": "From shards of a **synthetic** corpus, beside the same run on the CPU: the largest relative "
    "difference of the first losses and of all, and the ratio of the mean losses of the last fifth.",
    "resume": "Killed by SIGKILL and resumed, beside the run that was not.",
    "ranks": "Two ranks on one card, connected by gloo, with synchronised batch norm, beside one rank.",
    "machines": "Two ranks on one card that NCCL takes for two machines, connected by sockets, with synchronised batch "
    "norm, beside one rank; then one of them is killed, and the run is resumed on one rank.",
    "convolution": "One 3x3 convolution of 64 utterances of nine faces, bf16: milliseconds of the forward pass and of "
    "the gradients of the input and of the weight, for all sites by the card's library and for random ones.",
    "streams": "benchmarks/model.py: seconds of the convolutional streams, forward and forward + backward, and what "
    "the latter are of FE2E's; the same of the seconds in which the card worked (by a profile of one more step).",
    "compiled": "Forward and backward in bf16 with and without torch.compile, and with CUDA graphs of what it makes, "
    "over batches of several lengths; the first call compiles.",
    "compiled_steps": "The part steps with optim.compile.",
    "steps": "Published sizes from shards of noise, bf16: seconds of an update, waiting for data, kernels and copies "
    "on the card, the card idle; launches of an update; peak memory.",
}


def table(report: dict[str, Any]) -> str:
    """`report` is what run.py writes as JSON."""
    parts = report["parts"]
    machine = {key: value for key, value in parts.get("environment", {}).items() if key not in ("status", "seconds")}
    lines = [f"# Checks on {machine.get('card') or report['device']}, {report['date']}", ""]
    if report["quick"]:
        lines += ["With --quick: small models and few steps. The numbers test the script and say nothing else.", ""]
    lines += [", ".join(f"{key} {value}" for key, value in machine.items() if value is not None), ""]
    lines += rows_of([[name, part["status"], part.get("seconds")] for name, part in parts.items()], ("part", "", "s"))
    for name, part in parts.items():
        if name == "environment":
            continue
        lines += ["", f"## {name}: {part['status']}", "", MEANING[name], ""]
        if "error" in part:
            lines += [f"    {line}" for line in part["error"].strip().splitlines()]
        if "rows" in part:
            lines += rows_of([[row.get(key) for key in COLUMNS[name]] for row in part["rows"]], COLUMNS[name])
            lines += [f"\n{row['error'].strip().splitlines()[-1]}" for row in part["rows"] if row.get("error")]
        else:
            lines += [
                f"* {key}: {shown(value)}" for key, value in part.items() if key not in ("status", "seconds", "error")
            ]
        for kind, curves in part.get("curves", {}).items():
            lines += ["", f"Loss of {kind}, means of equal pieces:", ""]
            lines += [f"* {place}: {' '.join(f'{value:.3f}' for value in values)}" for place, values in curves.items()]
    return "\n".join(lines) + "\n"


def rows_of(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> list[str]:
    """A table in Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(map(shown, row))} |" for row in rows]


def shown(value: Any) -> str:
    """Four digits of a number."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
