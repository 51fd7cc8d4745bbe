"""Weights of the published code (github.com/wenliangdai/Multimodal-End2end-Sparse) as weights of `Model`.

Its `savings/models/*.pt` is the state_dict of MME2E (FE2E) or MME2E_Sparse (MESM). Names and shapes are those of its
modules, of SparseConvNet's and of transformers' AlbertModel. As

    V.0.weight                        MME2E          stacks.v.stem.first.conv.weight
    V.low_level.4.bn1.running_mean    MME2E_Sparse   stacks.v.stem.blocks.0.first.norm.running_mean
    A.sparse_layers.1.0.2.weight      MME2E_Sparse   stacks.a.blocks.1.convs.1.weight, there (9, 1, 256, 256)
    a_transformer.cls_emb.weight      both           sequences.a.cls, there (1, 64)
    mtcnn.pnet.conv1.weight           both           none: the face detector is no part of the model
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from mesm_data.errors import InputError
from mesm_train.config.model_settings import ModelSettings
from mesm_train.models.fe2e_mesm import Model

CLASSES = {"fe2e": "MME2E", "mesm": "MME2E_Sparse"}
# A detector that is never trained, and the numbers 0, 1, 2, ... that transformers kept among the weights before 4.31.
DROPPED = re.compile(r"mtcnn\.|T\.albert\.embeddings\.position_ids$")
ATTENTION = {"site": "channel_affine", "text": "y_affine", "score": "attn_weight_affine"}
TOP = [
    (r"text\.encoder\.", "T.albert."),
    (r"text\.out\.", "t_out."),
    (r"sequences\.([va])\.cls$", r"\1_transformer.cls_emb.weight"),
    (r"sequences\.([va])\.encoder\.", r"\1_transformer.encoder."),
    (r"sequences\.([va])\.out\.", r"\1_out."),
    (r"stacks\.([va])\.head\.1\.", r"\1_flatten.0."),
    (r"stacks\.([va])\.head\.3\.", r"\1_flatten.2."),
    (r"fusion\.", "weighted_fusion."),
]


def from_reference(published: Mapping[str, Tensor], model: Model) -> dict[str, Tensor]:
    """What `model.load_state_dict` takes, of a state_dict of the published code; `model` gives kind and sizes.

    Every tensor of `published` is used once, but for the face detector's and those of branches that the model was made
    without (the published classes have all three, whatever their modalities). The batch norms of the sparse blocks
    count no batches there; what `model` counted is kept.

    Raises InputError, which names them, where tensors are missing, unknown or of another shape, and where the sparse
    blocks of `model` have weights that the published ones do not have.
    """
    settings = model.settings
    own = model.state_dict()
    if any(".importance." in name or ".residual" in name for name in own):
        raise InputError(
            "the published MESM keeps single sites and learns no places; make the model with model.sparse.tile 1 and "
            "anneal_epochs 0"
        )
    names = {name: reference_name(name, settings) for name in own}
    targets = {theirs: own[name] for name, theirs in names.items() if theirs is not None}
    unused = re.compile("|".join([DROPPED.pattern, *_absent(settings)]))
    sources = {theirs: tensor for theirs, tensor in published.items() if not unused.match(theirs)}
    _refuse("lack", targets.keys() - sources.keys(), settings)
    _refuse("have unknown", sources.keys() - targets.keys(), settings)
    # Without the dimensions of size 1: the groups of SparseConvNet's weights, the one row of the CLS embedding.
    wrong = [name for name, tensor in sources.items() if _shape(tensor) != _shape(targets[name])]
    _refuse("have other sizes than model.* for", wrong, settings)
    return {
        name: tensor.clone() if theirs is None else sources[theirs].reshape(tensor.shape).to(tensor)
        for (name, tensor), theirs in zip(own.items(), names.values(), strict=True)
    }


def reference_name(name: str, settings: ModelSettings) -> str | None:
    """What the published code calls an entry of `Model.state_dict()`; None if it has no such entry."""
    for pattern, theirs in TOP:
        renamed, times = re.subn(f"^{pattern}", theirs, name)
        if times:
            return renamed
    parts = name.split(".")
    _, modality, place, *rest = parts
    stem = modality.upper() + (".low_level" if settings.kind == "mesm" else "")
    if place == "stem":
        if rest[0] == "first":  # first.conv.weight
            return ".".join([stem, {"conv": "0", "norm": "1"}[rest[1]], *rest[2:]])
        return f"{stem}.{4 + int(rest[1])}.{_half(rest[2:])}"  # blocks.0.second.norm.bias
    block = int(rest[0])
    if settings.kind == "fe2e":  # 0.first.conv.weight; each block is followed by its pooling
        return f"{stem}.{4 + settings.stem_blocks + 2 * block}.{_half(rest[1:])}"
    _, part, which, *leaf = rest
    if part == "attention":
        return ".".join([modality.upper(), "attn_layers", str(block), ATTENTION[which], *leaf])
    if leaf == ["num_batches_tracked"]:
        return None
    layer = 2 * int(which) + (part == "norms")  # conv, norm, conv, norm, pooling
    return ".".join([modality.upper(), "sparse_layers", str(block), "0", str(layer), *leaf])


def _half(parts: list[str]) -> str:
    """second.norm.bias to bn2.bias."""
    half, layer, *leaf = parts
    return ".".join([{"conv": "conv", "norm": "bn"}[layer] + {"first": "1", "second": "2"}[half], *leaf])


def _absent(settings: ModelSettings) -> list[str]:
    """Patterns of the branches that a model lacks, and of the fusion where there is nothing to fuse."""
    patterns = [rf"{m}_|{m.upper()}\." for m in "tva" if m not in settings.modalities]
    return patterns + ([r"weighted_fusion\."] if len(settings.modalities) == 1 else [])


def _shape(tensor: Tensor) -> list[int]:
    return [size for size in tensor.shape if size != 1]


def _refuse(complaint: str, names: Iterable[str], settings: ModelSettings) -> None:
    listed = sorted(names)
    if listed:
        more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
        raise InputError(
            f"the published weights {complaint} {', '.join(listed[:3])}{more}; a model of kind {settings.kind} takes a "
            f"state_dict of {CLASSES[settings.kind]} of the same modalities and sizes"
        )
