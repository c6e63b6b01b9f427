"""Texts as token ids: the embedded language reference, WikiText-2, and any local folder with a text column.

A text is a list of paragraphs. Its words are mapped through a vocabulary made from the training text alone.
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor

from vrcli.tasks.base import TaskError
from vrcli.tasks.images import cache_dir, files_below, folder_of

UNKNOWN, END = "<unk>", "<eos>"
_UNKNOWN_ID, _END_ID = 0, 1

Tokens: TypeAlias = Literal["words", "nltk", "whitespace"]

#: Words with their clitics apart ("it", "'s"), single symbols; WikiText's `<unk>` and `@-@` stay whole.
_WORDS = re.compile(r"<unk>|@\S@|'(?:s|t|re|ve|ll|d|m)\b|\w+|[^\w\s]")

#: Splits by the names under which they are found, first name first.
_SPLITS = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}

_WIKITEXT = {"wikitext2": "wikitext-2-v1", "wikitext2-raw": "wikitext-2-raw-v1"}


@dataclass(frozen=True)
class Corpus:
    """Three texts.

    Args:
        name: short name for tables.
        train: paragraphs.
        val: paragraphs.
        test: paragraphs.
        origin: where it came from, in a word or two ("embedded").
    """

    name: str
    train: list[str]
    val: list[str]
    test: list[str]
    origin: str = ""


def load_corpus(dataset: str, generator: torch.Generator, data_dir: Path | None = None) -> Corpus:
    """The corpus of that name, or the texts in the folder at that path.

    Args:
        generator: splits a corpus that has no splits of its own.
        data_dir: where a named corpus is kept, or downloaded to; `None` for the user's cache folder.

    Raises:
        TaskError: neither a known name nor a folder, or its texts cannot be had.
    """
    named = ("topics", *_WIKITEXT)
    if dataset == "topics":
        return topics(generator)
    if dataset in _WIKITEXT:
        return wikitext2(dataset, data_dir)
    return text_folder(folder_of(dataset, named), data_dir)


def corpus_files(dataset: str, data_dir: Path | None = None) -> list[Path] | None:
    """The files behind `load_corpus`, as far as they are there; None for what it does not know."""
    if dataset == "topics":
        found = importlib.util.find_spec("pydoc_data.topics")
        return [Path(found.origin)] if found and found.origin else None
    if dataset in _WIKITEXT:
        folder = (data_dir or cache_dir()) / "datasets" / "Salesforce___wikitext" / _WIKITEXT[dataset]
        return [path for path in files_below(folder) or [] if path.suffix == ".arrow"] or None
    return files_below(Path(dataset).expanduser())


def topics(generator: torch.Generator) -> Corpus:
    """The Python language reference that ships with CPython, split by topics: about 80 % / 10 % / 10 % of the words.

    Longer topics contain shorter ones (`specialnames` has all of `attribute-access`): of paragraphs that occur more
    than once only the first is kept, so that no paragraph is in two splits. The text differs between Python versions.
    """
    try:
        from pydoc_data.topics import topics as texts
    except ImportError as error:
        raise TaskError("dataset 'topics': this Python comes without its pydoc_data; use --dataset FOLDER") from error
    documents = _without_repeats(texts[name] for name in sorted(texts))
    words = [sum(len(paragraph.split()) for paragraph in document) for document in documents]
    room = {"val": sum(words) // 10, "test": sum(words) // 10}
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number in torch.randperm(len(documents), generator=generator).tolist():
        part = next((name for name, left in room.items() if words[number] <= left), "train")
        parts[part] += documents[number]
        if part in room:
            room[part] -= words[number]
    return Corpus("topics", **parts, origin=f"embedded, {len(documents)} topics of the Python reference")


def _without_repeats(texts: Iterable[str]) -> list[list[str]]:
    """Paragraphs of each text, without those that an earlier text has, and without drawn lines (underlines, tables)."""
    seen: set[str] = set()
    documents = []
    for text in texts:
        paragraphs = []
        for block in re.split(r"\n\s*\n", text):
            paragraph = " ".join(re.sub(r"([-=*~+^])\1{2,}\+?|[|]", " ", block).split())
            if paragraph and paragraph not in seen:
                seen.add(paragraph)
                paragraphs.append(paragraph)
        documents.append(paragraphs)
    return documents


def wikitext2(name: str, data_dir: Path | None = None) -> Corpus:
    """WikiText-2 (Merity et al. 2016), downloaded where missing: tokenised with its own `<unk>`, or raw.

    Raises:
        TaskError: it is not there and cannot be downloaded.
    """
    folder = data_dir or cache_dir()
    try:
        load_dataset = _hub_loader()
        loaded = load_dataset("Salesforce/wikitext", _WIKITEXT[name], cache_dir=str(folder / "datasets"))
    # Whatever of the many layers of a download fails, and with whatever type: what helps is the same.
    except Exception as error:
        shown = str(folder).replace(str(Path.home()), "~", 1)
        raise TaskError(
            f"dataset {name!r} is not in {shown} and could not be downloaded ({_reason(error)}); "
            "use --dataset FOLDER with train.txt, validation.txt and test.txt"
        ) from error
    train, val, test = (list(loaded[split]["text"]) for split in _SPLITS)
    return Corpus(name, train, val, test)


def _hub_loader() -> Callable[..., Any]:
    """`datasets.load_dataset`; in offline mode where the hub's name does not resolve, or it would retry for 20 s."""
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname
    before = os.environ.get("HF_HUB_OFFLINE")
    if not getproxies():
        try:
            socket.getaddrinfo(host, None)
        except OSError:
            os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from datasets import load_dataset  # reads the variable
    finally:
        if before is None:
            os.environ.pop("HF_HUB_OFFLINE", None)
    loader: Callable[..., Any] = load_dataset
    return loader


def _reason(error: BaseException) -> str:
    """The first line of an error, without the addresses that download errors carry."""
    lines = str(error).strip().splitlines()
    return "no network" if isinstance(error, OSError) or not lines else lines[0][:100]


def text_folder(path: Path, data_dir: Path | None = None) -> Corpus:
    """A folder of train, validation and test `.txt`, or any local folder that `datasets.load_dataset` reads.

    Raises:
        TaskError: a split or a text column is missing, a text is empty, or the files cannot be read.
    """
    files = {split: _first(path / f"{name}.txt" for name in names) for split, names in _SPLITS.items()}
    if any(files.values()):
        texts = {split: _read(path, split, file) for split, file in files.items()}
    else:
        texts = _load_columns(path, data_dir)
    train, val, test = (texts[split] for split in _SPLITS)
    return Corpus(path.resolve().name, train, val, test, origin="local")


def _first(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _read(folder: Path, split: str, file: Path | None) -> list[str]:
    if file is None:
        raise TaskError(f"dataset {str(folder)!r} has no {split} split: {split}.txt is missing")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"dataset {str(folder)!r}: {file.name} cannot be read as UTF-8 text ({error})") from error
    if not any(line.strip() for line in lines):
        raise TaskError(f"dataset {str(folder)!r}: {file.name} is empty")
    return lines


def _load_columns(path: Path, data_dir: Path | None) -> dict[str, list[str]]:
    from datasets import load_dataset

    shown = f"dataset {str(path)!r}"
    try:
        loaded = load_dataset(str(path), cache_dir=str((data_dir or cache_dir()) / "datasets"))
    # `datasets` raises anything from ValueError to pyarrow's own types on files it cannot read.
    except Exception as error:
        raise TaskError(f"{shown} has no train.txt, and `datasets` cannot read it ({_first_line(error)})") from error
    texts = {}
    for split, names in _SPLITS.items():
        table = next((loaded[name] for name in names if name in loaded), None)
        if table is None:
            raise TaskError(f"{shown} has no {split} split: it has {', '.join(loaded)}")
        texts[split] = [text or "" for text in table[_text_column(shown, table.features)]]
        if not any(text.strip() for text in texts[split]):
            raise TaskError(f"{shown}: the {split} split is empty")
    return texts


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]


def _text_column(shown: str, features: Mapping[str, Any]) -> str:
    """ "text", or the only column of strings."""
    strings = [
        name for name, feature in features.items() if getattr(feature, "dtype", "") in ("string", "large_string")
    ]
    if "text" in strings:
        return "text"
    if len(strings) != 1:
        raise TaskError(f"{shown} needs a column named text; its columns are {', '.join(features)}")
    return strings[0]


class Vocabulary:
    """Words and their ids: <unk> is 0, <eos> is 1, then the words of the training text, most frequent first.

    Args:
        train: the training text.
        tokens: "words" takes runs of letters and digits, clitics and single symbols apart; "nltk" splits as NLTK's
            `word_tokenize` does, but for its search for sentences; "whitespace" takes a text that is tokenised already.
        lowercase: fold case first.
        min_count: words that occur less often in the training text are <unk>.
    """

    def __init__(
        self, train: list[str], *, tokens: Tokens = "words", lowercase: bool = True, min_count: int = 1
    ) -> None:
        self._split = _splitter(tokens)
        self._lowercase = lowercase
        counts = Counter(chain.from_iterable(self._paragraphs(train)))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [word for word, count in ranked if count >= min_count and word not in (UNKNOWN, END)]
        self.words = [UNKNOWN, END, *kept]
        self.ids = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: list[str]) -> Tensor:
        """The stream of token ids, int64, with <eos> after every paragraph that has words."""
        ids = self.ids
        stream = [
            number
            for words in self._paragraphs(text)
            for number in (*(ids.get(word, _UNKNOWN_ID) for word in words), _END_ID)
        ]
        return torch.tensor(stream, dtype=torch.int64)

    def _paragraphs(self, text: list[str]) -> Iterator[list[str]]:
        for paragraph in text:
            words = self._split(paragraph.lower() if self._lowercase else paragraph)
            if words:
                yield words


def _splitter(tokens: Tokens) -> Callable[[str], list[str]]:
    if tokens == "whitespace":
        return str.split
    if tokens == "words":
        return _WORDS.findall
    return nltk_words()


def nltk_words() -> Callable[[str], list[str]]:
    """The words of a paragraph as NLTK's `word_tokenize` splits them, the paragraph taken as one sentence.

    `word_tokenize` looks for sentences first, with a model that is a download. What that changes is the period of a
    sentence that ends within a paragraph: here it stays with its word ("done."), and is split off at the paragraph's
    end alone. WikiText sets such periods apart already; words that end in one there are nearly all abbreviations
    ("u.s.", "no."), which `word_tokenize` mostly leaves whole, too.
    """
    # Importing it takes longer than importing torch.
    from nltk.tokenize.destructive import NLTKWordTokenizer

    split: Callable[[str], list[str]] = NLTKWordTokenizer().tokenize
    return split


def chunks(stream: Tensor, length: int, *, shared: int = 1) -> Tensor:
    """Rows of `length` tokens and the token after them, (n, length + 1), without what is left over at the end.

    Args:
        shared: tokens that a row has in common with the next. With 1, the last token of a row is the first of the
            next, and every token but the first is a target exactly once; with 0, no row's first token is a target.
    """
    size = length + 1
    return stream.unfold(0, size, size - shared).contiguous() if len(stream) >= size else stream.new_empty(0, size)
