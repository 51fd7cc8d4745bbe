"""The whole models: published sizes, packed batches with anything missing, independence of the batch."""

from dataclasses import fields, replace
from functools import cache
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mesm_data.errors import InputError
from mesm_train.config.model_settings import (
    Modality,
    ModelSettings,
    SparseSettings,
    TextSettings,
    TinySettings,
    field_help,
)
from mesm_train.data.batch import Batch, item_positions
from mesm_train.data.mel import count_pieces
from mesm_train.models.fe2e_mesm import Model
from mesm_train.models.kernels import EngineName

torch.set_num_threads(1)  # the pictures are few and the machine has other tests to run
KINDS = [("fe2e", "published"), ("mesm", "published"), ("mesm", "gate"), ("mesm", "straight")]
Kind = Literal["fe2e", "mesm"]


def albert(**sizes: int) -> nn.Module:
    from transformers import AlbertConfig, AlbertModel

    model: nn.Module = AlbertModel(AlbertConfig(**sizes))  # type: ignore[arg-type]
    return model


def small(
    kind: str,
    selection: str = "published",
    modalities: tuple[Modality, ...] = ("t", "v", "a"),
    engine: EngineName = "auto",
) -> Model:
    torch.manual_seed(3)
    sparse = SparseSettings(p=0.6, selection=selection, tile=1, anneal_epochs=0, engine=engine)  # type: ignore[arg-type]
    shape: dict[str, Any] = {"channels": (4, 6, 8), "stem_blocks": 1, "hidden": 16, "dim": 8, "layers": 2, "heads": 2}
    encoder = albert(
        vocab_size=50,
        embedding_size=8,
        hidden_size=12,
        num_attention_heads=2,
        intermediate_size=16,
        num_hidden_layers=2,
    )
    settings = ModelSettings(
        kind=kind,  # type: ignore[arg-type]
        modalities=modalities,
        classes=3,
        feedforward=16,
        sparse=sparse,
        **shape,
    )
    return Model(settings, encoder if "t" in modalities else None)


def utterance(faces: int, samples: int, tokens: int, seed: int) -> Batch:
    g = torch.Generator().manual_seed(seed)
    return Batch(
        keys=(f"u{seed}",),
        faces=torch.randint(0, 256, (faces, 48, 48, 3), dtype=torch.uint8, generator=g),
        face_counts=torch.tensor([faces]),
        samples=torch.randint(-9000, 9000, (samples,), dtype=torch.int16, generator=g),
        sample_counts=torch.tensor([samples]),
        tokens=torch.randint(4, 50, (1, tokens), generator=g),
        token_counts=torch.tensor([tokens]),
        labels=torch.zeros(1, 3),
    )


def pack(parts: list[Batch]) -> Batch:
    length = max((part.tokens.shape[1] for part in parts), default=0)
    tokens = [nn.functional.pad(part.tokens, (0, length - part.tokens.shape[1]), value=1) for part in parts]
    empty = replace(utterance(0, 0, length, 0), keys=())
    names = [each.name for each in fields(Batch) if each.name not in ("keys", "masks", "features")]
    rows = {name: [getattr(part, name) for part in parts] for name in names} | {"tokens": tokens}
    tensors: dict[str, Tensor] = {n: torch.cat(v) if v else getattr(empty, n)[:0] for n, v in rows.items()}
    return Batch(keys=tuple(key for part in parts for key in part.keys), **tensors)


def trained_a_little(model: Model) -> Model:
    """With running statistics that are not the initial ones."""
    with torch.no_grad():
        model.train()(pack([utterance(3, 9000, 9, seed) for seed in range(4)]))
    return model.eval()


@cache
def trained_once(kind: str, selection: str) -> Model:
    return trained_a_little(small(kind, selection))


@pytest.mark.parametrize(("kind", "millions"), [("fe2e", 36.78), ("mesm", 37.64)])
def test_published_sizes_have_the_published_number_of_parameters(kind: Kind, millions: float) -> None:
    with torch.device("meta"):
        encoder = albert(
            embedding_size=128, hidden_size=768, num_attention_heads=12, intermediate_size=3072, num_hidden_layers=12
        )
        published = SparseSettings(selection="published", tile=1, anneal_epochs=0)
        model = Model(ModelSettings(kind=kind, sparse=published), encoder)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions


def test_text_parameters_are_the_encoder_and_its_output_layer() -> None:
    model = small("mesm")
    assert model.text is not None
    text, other = list(model.text_parameters()), list(model.other_parameters())
    assert {id(p) for p in text} == {id(p) for p in [*model.text.encoder.parameters(), *model.text.out.parameters()]}
    assert len(text) + len(other) == len(list(model.parameters()))
    assert not {id(p) for p in text} & {id(p) for p in other}


counts = st.tuples(st.integers(0, 3), st.sampled_from([0, 150, 3000, 9000]), st.sampled_from([0, 2, 7]))


@pytest.mark.parametrize(("kind", "selection"), KINDS)
@settings(max_examples=6)
@given(data=st.data())
def test_result_does_not_depend_on_the_batch(kind: Kind, selection: str, data: st.DataObject) -> None:
    """In evaluation, for random ragged batches with modalities missing: to 1e-4, as it is promised."""
    model = trained_once(kind, selection)
    parts = [utterance(*sizes, seed) for seed, sizes in enumerate(data.draw(st.lists(counts, min_size=1, max_size=3)))]
    with torch.no_grad():
        together = model.forward_details(pack(parts))
        alone = [model.forward_details(part) for part in parts]
    torch.testing.assert_close(together.logits, torch.cat([details.logits for details in alone]), rtol=0, atol=1e-4)
    for modality, selections in together.selections.items():
        for n, selection in enumerate(selections):
            assert torch.equal(selection.kept, torch.cat([details.selections[modality][n].kept for details in alone]))


@pytest.mark.parametrize(("kind", "selection"), KINDS)
def test_no_utterance_reaches_another_within_a_batch(kind: Kind, selection: str) -> None:
    """In float64, where rounding chooses no other sites; the published code scattered features to other utterances.

    It is the packed computation of training, with the running statistics.
    """
    model = trained_a_little(small(kind, selection)).double()
    parts = [utterance(2, 9000, 5, 1), utterance(0, 3000, 7, 2), utterance(3, 0, 0, 3), utterance(1, 150, 2, 4)]
    with torch.no_grad():
        together = model.forward_details(pack(parts)).logits
        alone = torch.cat([model(part) for part in parts])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("kind", "selection"), KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_every_combination_of_empty_inputs_works(kind: Kind, selection: str, training: bool) -> None:
    """Forward and backward of every combination of N, F, S and the tokens; nothing becomes NaN."""
    sizes = [(f, s, t) for f in (0, 1) for s in (0, 100) for t in (0, 3)]
    batches = [pack([]), *(utterance(*size, 1) for size in sizes), pack([utterance(0, 0, 0, n) for n in range(2)])]
    model = small(kind, selection).train(training)
    for batch in batches:
        model.zero_grad()
        details = model.forward_details(batch)
        assert details.logits.shape == (len(batch.keys), 3)
        assert torch.isfinite(details.logits).all()
        details.logits.square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        for modality, there in details.present.items():
            assert not details.branches[modality][~there].any()
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


@pytest.mark.parametrize("modalities", [("t",), ("v",), ("a",), ("v", "a"), ("t", "a"), ("t", "v", "a")])
def test_fusion_adds_the_weighted_logits_of_the_present_modalities(modalities: tuple[Modality, ...]) -> None:
    model = small("fe2e", modalities=modalities).eval()
    batch = pack([utterance(2, 5000, 5, 1), utterance(2, 0, 5, 2), utterance(0, 5000, 0, 3)])
    with torch.no_grad():
        details = model.forward_details(batch)
    assert tuple(details.branches) == modalities
    weights = [1.0] if model.fusion is None else model.fusion.weight[0].tolist()
    expected = sum(w * details.branches[m] for w, m in zip(weights, modalities, strict=True))
    torch.testing.assert_close(details.logits, expected)
    there = {"t": [True, True, False], "v": [True, True, False], "a": [True, False, True]}
    assert {m: mask.tolist() for m, mask in details.present.items()} == {m: there[m] for m in modalities}


def test_every_parameter_learns_with_the_gate() -> None:
    """All but the encoder's pooling layer, which nothing uses, and the shift of the attention's scores."""
    model = small("mesm", "gate").train()
    for name, parameter in model.named_parameters():
        if name.endswith("score.weight"):  # it starts at 0, and what is before it has no gradient in the first step
            torch.nn.init.uniform_(parameter)
    model(pack([utterance(2, 9000, 5, n) for n in range(3)])).square().sum().backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert {n for n in still if "pooler" not in n and not n.endswith("score.bias")} == set()


@pytest.mark.parametrize(("kind", "selection"), KINDS)
def test_bfloat16_autocast_gives_float32_logits_and_gradients(kind: Kind, selection: str) -> None:
    model = small(kind, selection).train()
    batch = pack([utterance(2, 9000, 5, n) for n in range(3)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch)
    assert logits.dtype == torch.float32
    logits.sum().backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in grads)
    running = {name: value for name, value in model.state_dict().items() if "running" in name}
    assert all(value.dtype == torch.float32 for value in running.values())


def test_split_is_the_utterances() -> None:
    parts = [utterance(2, 500, 5, 1), utterance(0, 70, 0, 2), utterance(1, 0, 3, 3)]
    for part, expected in zip(pack(parts).to("cpu").split(), parts, strict=True):
        assert part.keys == expected.keys
        tensors = [f.name for f in fields(Batch) if f.name not in ("keys", "masks", "features")]
        assert all(torch.equal(getattr(part, name), getattr(expected, name)) for name in tensors)


@given(st.lists(st.integers(0, 4), max_size=6))
def test_places_count_through_each_utterance(lengths: list[int]) -> None:
    owner, position = item_positions(torch.tensor(lengths, dtype=torch.int64))
    expected = [(u, i) for u, length in enumerate(lengths) for i in range(length)]
    assert list(zip(owner.tolist(), position.tolist(), strict=True)) == expected


def test_the_number_of_pieces_is_that_of_the_published_code() -> None:
    """4.5 s are 12 pieces, as the published cost counts them."""
    assert count_pieces(torch.tensor([72000, 0, 1])).tolist() == [12, 0, 1]


@pytest.mark.parametrize(
    ("option", "make"),
    [
        ("model.modalities", lambda: ModelSettings(modalities=("a", "v"))),
        ("model.modalities", lambda: ModelSettings(modalities=())),
        ("model.modalities", lambda: ModelSettings(kind="mesm", modalities=("v", "a"))),
        ("model.channels", lambda: ModelSettings(channels=(1, 2, 3, 4, 5))),
        ("model.channels", lambda: ModelSettings(kind="mesm", channels=(4,))),  # it would have no sparse block
        ("model.dim", lambda: ModelSettings(dim=63)),
        ("model.dropout", lambda: ModelSettings(dropout=1.0)),
        ("model.face_std", lambda: ModelSettings(face_std=(1.0, 0.0, 1.0))),
        ("model.sparse.p", lambda: SparseSettings(p=0.0)),
        ("text.max_tokens", lambda: TextSettings(max_tokens=2)),
        ("text.revision", lambda: TextSettings(encoder="tiny", revision="main")),
        ("text.tiny.width", lambda: TinySettings(width=63)),
    ],
)
def test_settings_that_cannot_work_are_errors_that_name_the_option(option: str, make: Any) -> None:
    with pytest.raises(InputError, match=f"^{option} is .* must be"):
        make()


@pytest.mark.parametrize("kind", [ModelSettings, SparseSettings, TextSettings, TinySettings])
def test_every_setting_has_its_help(kind: type) -> None:
    help_texts = field_help(kind)
    assert list(help_texts) == [f.name for f in fields(kind)]
    assert all(text.endswith(".") for text in help_texts.values())


@pytest.mark.parametrize(("selection", "tile"), [("published", 1), ("gate", 1), ("straight", 2), ("gate", 4)])
def test_mesm_that_keeps_all_sites_starts_and_learns_as_fe2e_of_the_same_seed(selection: str, tile: int) -> None:
    """The same weights, logits and gradients in training, for the batch norms' own epsilon."""
    models = []
    sparse = SparseSettings(p=1, selection=selection, bn_eps=1e-5, tile=tile)  # type: ignore[arg-type]
    for kind in ("fe2e", "mesm"):
        torch.manual_seed(5)
        sizes: dict[str, Any] = {"channels": (4, 6, 8), "hidden": 16, "dim": 8, "layers": 1, "heads": 2, "dropout": 0}
        encoder = albert(vocab_size=50, num_attention_heads=2, num_hidden_layers=1, hidden_size=12)
        models.append(Model(ModelSettings(kind=kind, sparse=sparse, **sizes), encoder).double().train())  # type: ignore[arg-type]
    batch = pack([utterance(2, 6500, 9, 1), utterance(3, 9000, 4, 2)])
    dense, sparse_logits = (model(batch) for model in models)
    torch.testing.assert_close(sparse_logits, dense, rtol=0, atol=1e-9)
    gradients = []
    for model, logits in zip(models, (dense, sparse_logits), strict=True):
        logits.square().sum().backward()
        gradients.append(
            {name: p.grad for name, p in model.named_parameters() if ".blocks." not in name or "stem" in name}
        )
    assert gradients[0].keys() == gradients[1].keys()
    for name, mine in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], mine, rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
