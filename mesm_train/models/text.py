"""The text branch: a pretrained encoder of the Hugging Face Hub or of a folder. tiny_text.py makes a tiny one."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mesm_data.errors import InputError, first_line
from mesm_data.storage.files import sha256_file
from mesm_data.storage.machine_errors import translate_machine_errors
from mesm_train.config.model_settings import TextSettings
from mesm_train.data import device as accelerator
from mesm_train.data.tokenizer import tokenize
from mesm_train.models.hub import fetch_from_hub

# Never weights that must be unpickled (*.bin): safetensors only.
FILES = ("*.json", "*.safetensors", "*.model", "vocab.txt", "merges.txt")
# Classes of transformers that take a mask (n, 1, L, L) as it is. From one of (n, L) transformers makes it, and waits
# for the device to see whether it is needed (masking_utils.py of 5.17). The attention "sdpa" reads its booleans,
# "eager" would add them to the scores.
MASKS_AS_THEY_ARE = ("AlbertModel", "BertModel", "RobertaModel", "XLMRobertaModel")
# trust_remote_code: without it transformers asks on the terminal whether to run the code that a folder brings along.
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
DTYPE = torch.float32  # of the weights: without it transformers takes that of the files, maybe bfloat16


def hidden_states(encoder: nn.Module, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """The encoder's last hidden states (n, L, width); a function, for torch.compile."""
    states: Tensor = encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
    return states


class TextBranch(nn.Module):
    """Encoder, last hidden state of the first token, Linear to logits.

    Attributes:
        hidden_states: `hidden_states`, or what torch.compile made of it, for training.
    """

    hidden_states: Callable[[nn.Module, Tensor, Tensor | None], Tensor]

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        config: Any = encoder.config
        self.width = int(config.hidden_size)
        known = type(encoder).__name__ in MASKS_AS_THEY_ARE
        self._masks_as_they_are = known and config._attn_implementation == "sdpa"
        self.out = nn.Linear(self.width, classes)
        self.frozen = False
        self.hidden_states = hidden_states

    def freeze_encoder(self) -> None:
        """The encoder gets no gradient and stays in evaluation mode; the output layer goes on learning."""
        self.frozen = True
        self.encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "TextBranch":
        """As usual, but for a frozen encoder."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, tokens: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens int64 (N, L), counts int64 (N,) on the CPU to text vectors (N, width) and logits (N, classes).

        The vector of an utterance without tokens is 0; its logits are then the bias and mean nothing.
        """
        lengths = [length for length in counts.tolist() if length]
        if not lengths:
            vectors = self.out.weight.new_zeros(len(tokens), self.width)
        elif len(lengths) == len(tokens):
            vectors = self._encode(tokens, lengths)
        else:
            rows = torch.tensor([row for row, length in enumerate(counts.tolist()) if length])
            rows = accelerator.to_device(rows, tokens.device)
            states = self._encode(tokens.index_select(0, rows), lengths)
            vectors = states.new_zeros(len(tokens), self.width).index_copy(0, rows, states)
        return vectors, self.out(vectors)

    def _encode(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """The state of the first token, (n, width), for tokens (n, L) of which each row has one at least."""
        longest = max(lengths)
        there = torch.arange(longest) < torch.tensor(lengths)[:, None]
        mask: Tensor | None = None  # of no padding
        if not self._masks_as_they_are:
            mask = accelerator.to_device(there.long(), tokens.device)
        elif min(lengths) < longest:
            mask = accelerator.to_device(there, tokens.device)[:, None, None].expand(-1, 1, longest, -1)
        run = self.hidden_states if self.training else hidden_states
        return run(self.encoder, tokens[:, :longest], mask)[:, 0]


def load(settings: TextSettings) -> tuple[Any, nn.Module]:
    """The tokenizer and the encoder.

    The encoder is the library's as it is. Where it ends in a pooling layer (ALBERT, BERT), that is never used and gets
    no gradient; the published parameter counts include it (0.59 M).

    Raises InputError if there is no such model, or no network to fetch it and no cached copy.
    """
    folder = find(settings)
    from transformers import AutoConfig, AutoModel, AutoTokenizer, logging

    logging.disable_progress_bar()  # it would cut through the lines of the loop
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        config = with_fast_gelu(AutoConfig.from_pretrained(folder, **LOCAL))
        encoder = AutoModel.from_pretrained(folder, config=config, use_safetensors=True, dtype=DTYPE, **LOCAL)
        refuse_other_models(tokenizer, encoder)
    except Exception as error:  # what transformers and tokenizers raise depends on where a file is damaged
        raise InputError(
            f"text.encoder {settings.encoder!r} does not load: {_sentence(error)} It must hold config.json, "
            "model.safetensors and a tokenizer"
        ) from error
    return tokenizer, encoder


def copy_tokenizer(settings: TextSettings, folder: Path) -> None:
    """Copy the tokenizer and the configuration of an encoder to `folder`, for `load_without_weights`."""
    source = find(settings)
    with translate_machine_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(path for pattern in FILES for path in source.glob(pattern)):
            if path.suffix != ".safetensors" and not path.name.endswith(".index.json"):
                shutil.copyfile(path, folder / path.name)


def load_without_weights(folder: Path) -> tuple[Any, nn.Module]:
    """The tokenizer, and the encoder with random weights: those of a checkpoint are loaded into it.

    Raises InputError if `folder` does not hold a configuration and a tokenizer.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        config = with_fast_gelu(AutoConfig.from_pretrained(folder, **LOCAL))
        with torch.random.fork_rng(devices=[]):
            encoder = AutoModel.from_config(config, trust_remote_code=False, dtype=DTYPE)
        refuse_other_models(tokenizer, encoder)
    except Exception as error:  # what transformers and tokenizers raise depends on where a file is damaged
        raise InputError(
            f"{folder} does not load as a text encoder: {_sentence(error)} It must hold config.json and a tokenizer"
        ) from error
    return tokenizer, encoder


def with_fast_gelu(config: Any) -> Any:
    """The configuration with torch's own tanh approximation of GELU for ALBERT's, which takes eight operators."""
    if getattr(config, "hidden_act", "") == "gelu_new":
        config.hidden_act = "gelu_pytorch_tanh"
    return config


def refuse_other_models(tokenizer: Any, encoder: Any) -> None:
    """Raises ValueError if an encoder cannot read what the tokenizer makes of a text, or gives no vectors."""
    embeddings = encoder.get_input_embeddings()
    if not isinstance(embeddings, nn.Embedding):
        raise ValueError("it is no model of texts")
    if len(tokenizer) > embeddings.num_embeddings:
        raise ValueError("its tokenizer has more tokens than the model")
    tokens, counts = tokenize(tokenizer, ["yes"], max_tokens=8)
    with torch.no_grad():
        states = encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
    if states.shape != (1, int(counts[0]), encoder.config.hidden_size):
        raise ValueError("its last hidden state is not one vector a token")


def find(settings: TextSettings) -> Path:
    """The folder of the encoder's files, fetched from the Hub into its cache where needed (not if HF_HUB_OFFLINE=1)."""
    if settings.encoder == "tiny":
        raise ValueError("make_tiny first, then name its folder as the encoder")
    return find_encoder(settings.encoder, settings.revision, "text.encoder", hint=", or tiny (the demo's)")


def find_encoder(encoder: str, revision: str | None, option: str, hint: str = "") -> Path:
    """The folder of an encoder's files. Raises InputError that names the `option` if they cannot be had."""
    if Path(encoder).is_dir():
        if revision is not None:  # it would be recorded as that of the files, which may be of any other
            raise InputError(
                f"{option} {encoder!r} is a folder, which has no revision {revision!r}: leave the revision out, or "
                "give the name of a model of the Hub"
            )
        return Path(encoder)
    try:
        return fetch_from_hub(encoder, revision, FILES)
    except InputError as error:
        raise InputError(
            f"{option} {encoder!r} is no folder here and cannot be fetched from the Hugging Face Hub: {error}. Give "
            f"the path of a folder that holds the model{hint}"
        ) from error


def provenance(settings: TextSettings) -> dict[str, Any]:
    """What the encoder was loaded from: its name, the commit if it came from the Hub, and the sha256 of each file."""
    return encoder_provenance(find(settings), settings.encoder, settings.revision)


def encoder_provenance(folder: Path, encoder: str, revision: str | None) -> dict[str, Any]:
    """The same for any encoder, whose files lie in `folder`."""
    files = sorted(path for pattern in FILES for path in folder.glob(pattern))
    return {
        "encoder": encoder,
        "revision": revision,
        "commit": folder.name if folder.parent.name == "snapshots" else None,
        "files": {path.name: sha256_file(path) for path in files},
    }


def _sentence(error: Exception) -> str:
    """The first line of what a library says, ended by a full stop."""
    first = first_line(error)
    return first if first.endswith(".") else f"{first}."
