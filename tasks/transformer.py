"""transformer: next-word prediction with an encoder-decoder Transformer.

Source:      arXiv 2505.13196, section 5 and Tables 8, 9 (Transformer on WikiText-2); sizes and initialisation are
             those of the authors' released code.
Deviations:  the encoder's self-attention and the cross-attention are causal, and so is the decoder's self-attention:
             otherwise the encoder shows every position the word it is to predict (`--leak-targets` shows it, as the
             released code does). Words that the training text lacks are <unk>, in inputs and targets alike. No padding:
             chunks are full, and the last, incomplete one is left out. The released code's chunks share no token, so
             that 64 tokens give 63 pairs (`--separate-chunks`), and its vocabulary has a <pad> that never occurs
             (`--pad-word`); its text is split into sentences before words (see `text.nltk_words`); its means of
             batch means are token-weighted means here; its searches minimise the last epoch's validation perplexity,
             those here the best epoch's loss.
Shapes:      chunks (B, T + 1) int64; inputs and targets (B, T); hidden states (B, T, D); logits (B, T, V)
             T is `seq_len`, or one less with separate chunks
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vrcli.tasks.attention import Dropout, transformer
from vrcli.tasks.base import (
    Batch,
    Metric,
    Preset,
    Sourced,
    Split,
    Splits,
    Task,
    TaskConfig,
    TaskError,
    assumed,
    mean_over,
    stated,
)
from vrcli.tasks.chunked import linear_cross_entropy, linear_scores
from vrcli.tasks.space import Categorical, Integer, Real, Space
from vrcli.tasks.text import Corpus, Tokens, Vocabulary, chunks, corpus_files, load_corpus

#: Rows per step of an evaluation.
_EVAL_ROWS = 32

#: Places in the paper: the protocol's settings, and what the sweeps found.
_PROTOCOL = "Table 8"
_SWEEP = "Table 9"
_CODE = "released code"


class Config(TaskConfig):
    """Settings of the transformer task."""

    dataset: str = Field("topics", description="topics, wikitext2, wikitext2-raw, or a local folder of texts")
    tokens: Tokens = Field("words", description="split at punctuation, as NLTK's word_tokenize does, or at blanks")
    lowercase: bool = Field(True, description="fold case")
    min_count: int = Field(1, ge=1, description="rarer words of the training text are <unk>")
    pad_word: bool = Field(False, description="a <pad> in the vocabulary that never occurs (released code)")
    seq_len: int = Field(64, ge=2, description="tokens per chunk")
    separate_chunks: bool = Field(False, description="chunks share no token, seq_len - 1 pairs in each (released code)")
    d_model: int = Field(128, ge=2, multiple_of=2, description="width of the embeddings and hidden states")
    heads: int = Field(8, ge=1, description="attention heads")
    layers: int = Field(2, ge=1, description="encoder layers, and as many decoder layers")
    d_ff: int = Field(256, ge=1, description="width of the feed-forward layers")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout probability")
    leak_targets: bool = Field(False, description="no masks in the encoder and the cross-attention (shows the answer)")

    @model_validator(mode="after")
    def _heads_divide(self) -> Config:
        if self.d_model % self.heads:
            raise ValueError(f"d_model {self.d_model} must be a multiple of heads {self.heads}")
        return self


class Seq2Seq(nn.Module):
    """Encoder and decoder over the same words, each with embeddings of its own, and an output layer.

    Args:
        vocabulary: V, number of words.
        config: sizes, dropout and masks.
    """

    positions: Tensor
    mask: Tensor

    def __init__(self, vocabulary: int, config: Config) -> None:
        super().__init__()
        width = config.d_model
        self.leak_targets = config.leak_targets
        self.scale = math.sqrt(width)
        self.encoder_embedding = nn.Embedding(vocabulary, width)
        self.decoder_embedding = nn.Embedding(vocabulary, width)
        self.dropout = Dropout(config.dropout)
        self.transformer = transformer(width, config.heads, config.layers, config.d_ff, config.dropout)
        self.output = nn.Linear(width, vocabulary)
        for layer in (self.encoder_embedding, self.decoder_embedding, self.output):
            nn.init.uniform_(layer.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)
        self.register_buffer("positions", _sinusoids(config.seq_len, width), persistent=False)
        mask = nn.Transformer.generate_square_subsequent_mask(config.seq_len)
        self.register_buffer("mask", mask, persistent=False)  # -inf where not to attend

    def forward(self, tokens: Tensor) -> Tensor:
        """Hidden states (B, T, D) for tokens (B, T), T at most `seq_len`; `output` turns them into logits."""
        length = tokens.shape[1]
        mask = self.mask[:length, :length]
        seen = None if self.leak_targets else mask
        hidden: Tensor = self.transformer(
            self._embed(self.encoder_embedding, tokens),
            self._embed(self.decoder_embedding, tokens),
            src_mask=seen,
            memory_mask=seen,
            tgt_mask=mask,
            # With the hints no step has to compare or build masks.
            src_is_causal=not self.leak_targets,
            memory_is_causal=not self.leak_targets,
            tgt_is_causal=True,
        )
        return hidden

    def _embed(self, embedding: nn.Embedding, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(embedding(tokens) * self.scale + self.positions[: tokens.shape[1]])
        return hidden


def _sinusoids(length: int, width: int) -> Tensor:
    """Positional encoding (Vaswani et al. 2017): sin and cos of position / 10000^(2i / width), (length, width)."""
    position = torch.arange(length).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(position * rate), torch.cos(position * rate)], 2).flatten(1)


_LR = Real(1e-5, 0.1, log=True, origin=_SWEEP)

_PAPER: dict[str, Sourced] = {
    "seq_len": stated(64, _PROTOCOL),
    "d_model": stated(128, _PROTOCOL),
    "d_ff": stated(256, _PROTOCOL),
    "epochs": stated(100, _PROTOCOL),
    "batch_size": stated(32, _PROTOCOL),
}

#: What the paper leaves open and the released code states.
_SIZES = {"heads": 8, "layers": 2, "dropout": 0.2}

#: Table 8 gives a weight decay for these two only.
_WEIGHT_DECAY = stated(1e-5, f"{_PROTOCOL}: for VRAdam and AdamW only")

_PAPER_OPTIMIZERS = {
    "vradam": {
        "lr": stated(1.55e-5, _SWEEP),
        "beta3": stated(3.35, _SWEEP),
        "normgrad": stated(False, _SWEEP),
        "lr_cutoff": stated(7, _SWEEP),
        "weight_decay": _WEIGHT_DECAY,
    },
    "adamw": {"lr": stated(1.661e-5, _SWEEP), "weight_decay": _WEIGHT_DECAY},
    "sgd": {
        "lr": assumed(0.1, "no value is given: every trial of the paper ended in NaN; largest of the searched range"),
        "momentum": stated(0.9, _PROTOCOL),
        "nesterov": stated(True, _PROTOCOL),
    },
    "rmsprop": {
        "lr": assumed(1e-4, "no value is given: every trial of the paper ended in NaN"),
        "alpha": stated(0.1, _PROTOCOL),
    },
}
_MOMENTUM = stated(0.2, _CODE)
_RELEASED_OPTIMIZERS = {
    **_PAPER_OPTIMIZERS,
    "adam": {
        "lr": stated(1.661e-5, f"{_SWEEP}; what the code calls AdamW is Adam with L2 decay"),
        "weight_decay": _WEIGHT_DECAY,
    },
    "sgd": {**_PAPER_OPTIMIZERS["sgd"], "momentum": _MOMENTUM, "nesterov": stated(True, _CODE)},
    "rmsprop": {**_PAPER_OPTIMIZERS["rmsprop"], "alpha": stated(0.1, _CODE), "momentum": _MOMENTUM},
}


class Transformer(Task[Config]):
    """Next-word prediction; see the module."""

    name = "transformer"
    summary = "encoder-decoder Transformer, next-word prediction"
    metrics = (
        Metric("loss", "min", unit="nats"),
        Metric("perplexity", "min"),
        Metric("accuracy", "max", percent=True),
    )
    Config = Config
    diverged_above = 1000.0

    presets: ClassVar[Mapping[str, Preset]] = {
        "smoke": Preset(
            {
                "dataset": assumed("topics", "embedded"),
                "min_count": assumed(2, "so that <unk> occurs in training"),
                "d_model": assumed(32, "fast"),
                "heads": assumed(2, "fast"),
                "layers": assumed(1, "fast"),
                "d_ff": assumed(64, "fast"),
                "epochs": assumed(1, "fast"),
                "batch_size": assumed(32, "as in the paper"),
                "max_steps": assumed(20, "fast"),
            },
            {
                "vradam": {"lr": assumed(3e-3, "learns within the few steps")},
                "adamw": {"lr": assumed(3e-3, "learns within the few steps")},
                "sgd": {"lr": assumed(0.3, "learns within the few steps"), "momentum": stated(0.9, _PROTOCOL)},
            },
            summary="20 steps on the embedded text, for CI",
        ),
        "quick": Preset(
            {
                "dataset": assumed("topics", "embedded"),
                "min_count": assumed(2, "so that <unk> occurs in training"),
                "seq_len": stated(64, _PROTOCOL),
                "d_model": assumed(64, "half of the paper's, for a text 30 times shorter"),
                "heads": assumed(4, "16 dimensions per head, as in the paper"),
                "layers": assumed(1, "fast"),
                "d_ff": assumed(128, "twice d_model, as in the paper"),
                "dropout": assumed(0.2, f"as the {_CODE}"),
                "epochs": assumed(15, "the validation loss of AdamW is lowest at about epoch 12"),
                "batch_size": assumed(16, "more steps from a short text"),
            },
            {
                "*": {
                    "weight_decay": assumed(1e-5, "the paper's for VRAdam and AdamW, here the same for every optimizer")
                },
                "vradam": {"lr": assumed(1e-3, "as AdamW's")},
                "adamw": {"lr": assumed(1e-3, "best validation loss of 1e-3 and 3e-3")},
                "sgd": {
                    "lr": assumed(0.1, "best validation loss of 0.1 and 0.3"),
                    "momentum": stated(0.9, _PROTOCOL),
                    "nesterov": stated(True, _PROTOCOL),
                },
                "rmsprop": {"lr": assumed(1e-3, "as AdamW's")},
                "vrmomentum": {"lr": assumed(1.0, "SGD's rate / (1 - momentum): its velocity is an average")},
            },
            summary="embedded text, small model",
        ),
        "paper": Preset(
            {
                **_PAPER,
                **{name: assumed(value, f"as the {_CODE}") for name, value in _SIZES.items()},
                "dataset": stated("wikitext2", "section 5: WikiText-2"),
                "tokens": assumed("whitespace", "WikiText-2 comes as words between blanks"),
                "lowercase": assumed(False, "WikiText-2 as published"),
                "schedule": stated("warmup-cosine", _PROTOCOL),
                "warmup_epochs": stated(5, _PROTOCOL),
                "warmup_factor": stated(0.1, _PROTOCOL),
                "eta_min": stated(1e-5, _PROTOCOL),
            },
            _PAPER_OPTIMIZERS,
            summary="WikiText-2 as the paper states it, causal everywhere",
        ),
        "released": Preset(
            {
                **_PAPER,
                **{name: stated(value, _CODE) for name, value in _SIZES.items()},
                "dataset": stated("wikitext2-raw", _CODE),
                "tokens": stated("nltk", f"{_CODE}: word_tokenize; a line counts as one sentence here"),
                "lowercase": stated(True, _CODE),
                "pad_word": stated(True, _CODE),
                "seq_len": stated(64, f"{_PROTOCOL}; {_CODE}"),
                "separate_chunks": stated(True, f"{_CODE}: 63 pairs from each 64 tokens"),
                "leak_targets": stated(True, "released code: no masks in the encoder and the cross-attention"),
                "accumulate_gradients": stated(True, "released code: gradients are never zeroed"),
                "schedule": stated("constant", "released code: the schedule is configured and never created"),
            },
            _RELEASED_OPTIMIZERS,
            summary="what the authors' code does, faults included",
        ),
    }

    space: ClassVar[Mapping[str, Space]] = {
        "vradam": {
            "lr": _LR,
            "beta3": Real(0.1, 5.0, origin=_SWEEP),
            "normgrad": Categorical((True, False), origin=_SWEEP),
            "lr_cutoff": Integer(5, 30, origin=_SWEEP),
        },
        "adamw": {"lr": _LR},
        "sgd": {"lr": _LR},
        "rmsprop": {"lr": _LR},
        "*": {"lr": Real(1e-5, 0.1, log=True, origin=f"the range of {_SWEEP} for every optimizer")},
    }

    def files(self) -> list[Path] | None:
        if self.config.tokens == "nltk":
            return None  # the words depend on NLTK's version too
        return corpus_files(self.config.dataset, self.data_dir)

    def data(self, generator: torch.Generator) -> Splits:
        c = self.config
        corpus = load_corpus(c.dataset, generator, self.data_dir)
        vocabulary = Vocabulary(corpus.train, tokens=c.tokens, lowercase=c.lowercase, min_count=c.min_count)
        streams = [vocabulary.encode(text) for text in (corpus.train, corpus.val, corpus.test)]
        pairs, shared = (c.seq_len - 1, 0) if c.separate_chunks else (c.seq_len, 1)
        for split, stream in zip(("train", "validation", "test"), streams, strict=True):
            if len(stream) <= pairs:
                raise TaskError(
                    f"dataset {c.dataset!r}: the {split} split has {len(stream)} tokens, a chunk needs {pairs + 1}"
                )
        words = len(vocabulary) + c.pad_word
        train, val, test = (Split((chunks(stream, pairs, shared=shared),)) for stream in streams)
        about = _about(corpus, streams, words)
        return Splits(train, val, test, dataset=corpus.name, about=about, info={"vocabulary": words})

    def model(self, data: Splits) -> Seq2Seq:
        return Seq2Seq(data.info["vocabulary"], self.config)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        hidden, target, output = _predictions(model, batch)
        return linear_cross_entropy(hidden, output.weight, output.bias, target)

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        def measure(batch: Batch) -> tuple[Tensor, ...]:
            hidden, target, output = _predictions(model, batch)
            return linear_scores(hidden, output.weight, output.bias, target)

        # Every row has as many tokens, so weighting by rows weights by tokens.
        loss, accuracy = mean_over(split, _EVAL_ROWS, measure)
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return {"loss": loss, "perplexity": perplexity, "accuracy": accuracy}


def _predictions(model: Any, batch: Batch) -> tuple[Tensor, Tensor, nn.Linear]:
    """Hidden states (N, D) of every position, the words that follow them (N,), and the layer between the two."""
    (rows,) = batch  # (B, T + 1)
    hidden = model(rows[:, :-1])  # (B, T, D)
    return hidden.flatten(0, 1), rows[:, 1:].flatten(), model.output


def _about(corpus: Corpus, streams: list[Tensor], words: int) -> str:
    tokens = sum(len(stream) for stream in streams)
    return ", ".join(part for part in (corpus.origin, f"{tokens:,} tokens, {words:,} words") if part)
