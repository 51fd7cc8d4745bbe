"""FE2E and MESM of the published sizes on the device against float64 on the CPU: logits, gradients, chosen sites."""

import copy
from typing import Any, Literal

import torch
from options import Options, Result
from torch import Tensor
from torch.nn import functional
from transformers import AlbertConfig, AlbertModel

from mesm_train.config.model_settings import ModelSettings, SparseSettings
from mesm_train.data.batch import Batch
from mesm_train.data.device import configure_backends
from mesm_train.models.fe2e_mesm import Model
from mesm_train.training.optimizer import autocast

# The largest root mean square error of the logits over their own, the least cosine of the gradients, and the least
# share of all sites that are chosen alike. They are wide: what is wrong exceeds them, what is rounded does not.
LIMITS = {"fp32": (1e-3, 0.999, 0.999), "tf32": (5e-2, 0.98, 0.98), "bf16": (3e-1, 0.9, 0.9)}
# The same where rounding chooses other sites: of noise with random weights float32 on a CPU chose .5 % differently from
# float64, which changed the logits by 1 %.
CHOICE_LIMITS = {"fp32": (3e-2, 0.99, 0.98), "tf32": (1.5e-1, 0.9, 0.95), "bf16": (3e-1, 0.7, 0.88)}
Kind = Literal["fe2e", "tiles", "sites"]
KINDS: tuple[tuple[Kind, float], ...] = (("fe2e", 1.0), ("tiles", 1.0), ("tiles", 0.8), ("sites", 0.8))
SPARSE: dict[str, Any] = {"sites": {"selection": "gate", "tile": 1, "anneal_epochs": 0}}
VOCABULARY = 1000
Outcome = tuple[Tensor, Tensor, list[Tensor]]


def model(kind: Kind, p: float, *, quick: bool) -> Model:
    """Random weights, no dropout."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"channels": (8, 16, 16), "hidden": 32, "dim": 16} if quick else {}
    text = (16, 32, 2, 2, 32) if quick else (128, 768, 12, 12, 3072)
    names = ("embedding_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    encoder = AlbertModel(AlbertConfig(vocab_size=VOCABULARY, **dict(zip(names, text, strict=True))))
    # An attention that starts even, as of init torch, would leave the choice of its last site to rounding.
    sparse = SparseSettings(p=p, init="published", **SPARSE.get(kind, {}))
    settings = ModelSettings(kind="fe2e" if kind == "fe2e" else "mesm", dropout=0, sparse=sparse, **sizes)
    return Model(settings, encoder).train()


def batch(utterances: int) -> Batch:
    """Noise of 4.5 s an utterance, on the CPU; the last one has no face."""
    generator = torch.Generator().manual_seed(1)
    face_counts = torch.full((utterances,), 9)
    face_counts[-1] = 0
    faces = torch.randint(0, 256, (int(face_counts.sum()), 48, 48, 3), dtype=torch.uint8, generator=generator)
    return Batch(
        keys=tuple(map(str, range(utterances))),
        faces=faces,
        face_counts=face_counts,
        samples=torch.randint(-9000, 9000, (72000 * utterances,), dtype=torch.int16, generator=generator),
        sample_counts=torch.full((utterances,), 72000),
        tokens=torch.randint(5, VOCABULARY, (utterances, 20), generator=generator),
        token_counts=torch.tensor([20, 13] * (utterances // 2)),
        labels=torch.randint(0, 2, (utterances, 6), generator=generator).float(),
    )


def outcome(original: Model, data: Batch, device: torch.device, precision: str) -> Outcome:
    """Logits, all gradients in one vector, and the kept sites of each sparse block, on the CPU in float64."""
    copied = copy.deepcopy(original).to(device)
    dtype = torch.float64 if precision == "fp64" else torch.float32
    copied, data = copied.to(dtype), data.to(device)
    configure_backends(device, precision)
    with autocast(device, precision):
        details = copied.forward_details(data)
    loss = functional.binary_cross_entropy_with_logits(details.logits.to(dtype), data.labels.to(dtype), reduction="sum")
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in copied.parameters()]
    flat = torch.cat([gradient.flatten().double().cpu() for gradient in gradients])
    kept = [selection.kept.cpu() for selections in details.selections.values() for selection in selections]
    return details.logits.detach().double().cpu(), flat, kept


def parity(options: Options) -> Result:
    """A row for each kind, device and precision."""
    rows: list[Result] = []
    data = batch(2 if options.quick else 4)
    for kind, p in KINDS:
        original = model(kind, p, quick=options.quick)
        logits, gradient, kept = outcome(original, data, torch.device("cpu"), "fp64")
        for place, precision in (("cpu", "fp32"), *((options.device, name) for name in LIMITS)):
            name = kind if kind == "fe2e" else f"mesm p = {p:g}, {kind}"
            row: Result = {"kind": name, "device": place, "precision": precision}
            row["engine"] = original.stacks["v"].kernels(torch.device(place)).name
            try:
                theirs = outcome(original, data, torch.device(place), precision)
            except Exception as error:  # the other precisions are worth a try; a broken card fails them too
                rows.append({**row, "passed": False, "error": f"{type(error).__name__}: {str(error)[:300]}"})
                continue
            error_rms = float((theirs[0] - logits).square().mean().sqrt() / logits.square().mean().sqrt())
            cosine = float(functional.cosine_similarity(theirs[1], gradient, dim=0))
            alike = [float((one == other).double().mean()) for one, other in zip(theirs[2], kept, strict=True)]
            most, least, share = (LIMITS if p == 1 else CHOICE_LIMITS)[precision]
            passed = error_rms <= most and cosine >= least and min(alike, default=1.0) >= share
            measured = {"logit_error": error_rms, "gradient_cosine": cosine, "sites_alike": min(alike, default=None)}
            rows.append({**row, **measured, "passed": passed})
    return {"passed": all(row["passed"] for row in rows), "rows": rows}
