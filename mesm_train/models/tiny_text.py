"""A tiny text encoder, made on the spot from the transcripts of a dataset, for demos and tests."""

import math
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch

from mesm_data.storage.machine_errors import translate_machine_errors
from mesm_train.config.model_settings import TextSettings, TinySettings

PAD, UNKNOWN, CLS, SEP = "<pad>", "<unk>", "[CLS]", "[SEP]"
LONGEST_PIECE = 8  # characters of a piece of the vocabulary


def make_tiny(transcripts: Iterable[str], folder: Path, seed: int, settings: TextSettings) -> None:
    """Write a randomly initialised small ALBERT and a tokenizer of its own: identical files each time.

    Args:
        transcripts: The texts that the vocabulary is made of; those of the train part only.
        folder: Where the files go; `text.load` reads them.
        seed: Of the weights.
        settings: `tiny` has the sizes, `max_tokens` the longest text.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import AlbertConfig, AlbertModel, PreTrainedTokenizerFast, logging

    logging.disable_progress_bar()
    tiny = settings.tiny
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    words = pre_tokenizers.Metaspace()
    split = (words.pre_tokenize_str(normalizer.normalize_str(text)) for text in transcripts)
    pieces = tiny_vocabulary(Counter(word for text in split for word, _ in text), tiny)
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1, byte_fallback=False))
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = normalizer, words, decoders.Metaspace()
    special = [(CLS, 2), (SEP, 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{CLS} $A {SEP}", special_tokens=special)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, cls_token=CLS, sep_token=SEP
    )
    config = AlbertConfig(
        vocab_size=len(pieces),
        embedding_size=tiny.embedding,
        hidden_size=tiny.width,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        intermediate_size=tiny.feedforward,
        max_position_embeddings=max(512, settings.max_tokens),
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = AlbertModel(config)
    with translate_machine_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        fast.save_pretrained(folder)
        encoder.save_pretrained(folder)
    for path in folder.iterdir():
        with suppress(PermissionError):  # a file system without modes
            path.chmod(0o644)  # safetensors makes it 0600, all else of a run can be read by everybody


def tiny_vocabulary(words: Counter[str], settings: TinySettings) -> list[tuple[str, float]]:
    """Pieces with their log probabilities: the special tokens, every character, the substrings that cover most text.

    Not by the trainer of the tokenizers library: it gives another vocabulary on every run (0.23.3, also on one thread).
    """
    counts: Counter[str] = Counter()
    for word, times in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + LONGEST_PIECE) + 1):
                counts[word[start:end]] += times
    by_cover = sorted(counts, key=lambda piece: (len(piece) > 1, -counts[piece] * len(piece), piece))
    chosen = by_cover[: settings.vocabulary - 4]
    total = sum(counts[piece] for piece in chosen)
    return [(token, 0.0) for token in (PAD, UNKNOWN, CLS, SEP)] + [(c, math.log(counts[c] / total)) for c in chosen]
