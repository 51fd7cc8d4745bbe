"""Tokenization of texts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def tokenize(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
    """Tokenize texts, with special tokens; a blank text has no tokens.

    Returns:
        Tokens, int64 (N, L), padded to the longest text, and their counts, int64 (N,).
    """
    rows: list[list[int]] = [[] for _ in texts]
    nonblank = [i for i, text in enumerate(texts) if text.strip()]
    if nonblank:
        token_ids = tokenizer([texts[i] for i in nonblank], truncation=True, max_length=max_tokens)["input_ids"]
        for i, ids in zip(nonblank, token_ids, strict=True):
            rows[i] = ids
    counts = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    tokens = torch.full((len(rows), max(map(len, rows), default=0)), tokenizer.pad_token_id or 0, dtype=torch.int64)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
    return tokens, counts
