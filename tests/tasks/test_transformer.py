"""The transformer task: what each position can see, the chunked output layer, texts and vocabularies, learning."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from vrcli.bench.plain_transformer import Plain, plain
from vrcli.settings import resolve
from vrcli.tasks import attention
from vrcli.tasks.base import Splits, TaskError
from vrcli.tasks.chunked import linear_cross_entropy, linear_scores
from vrcli.tasks.text import Vocabulary, chunks, load_corpus, topics
from vrcli.tasks.transformer import Seq2Seq, Transformer

SMALL = {"d_model": 16, "heads": 2, "layers": 2, "d_ff": 32, "seq_len": 12, "dropout": 0.0}
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "dog", "run", "over", "green", "hills"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sentences(count: int, seed: int) -> list[str]:
    """Text in which each word determines the next, except at the start."""
    starts = torch.randint(len(WORDS), (count,), generator=generator(seed)).tolist()
    return [" ".join(WORDS[(start + 3 * i) % len(WORDS)] for i in range(8)) for start in starts]


def write_texts(folder: Path, **texts: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, lines in texts.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small lose more than they gain by threads, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "small", train=sentences(300, 0), validation=sentences(40, 1), test=sentences(40, 2))


def build(folder: Path | str, **settings: object) -> tuple[Transformer, Splits]:
    task = Transformer(Transformer.Config(dataset=str(folder), **{**SMALL, **settings}))
    return task, task.data(generator())


# -- what a position sees ---------------------------------------------------------------------------------------------


def logits_before_and_after(leak: bool, *, train: bool) -> tuple[Tensor, Tensor, int]:
    """Logits of one sequence, and of the same sequence with every token from position `cut` on replaced."""
    torch.manual_seed(0)
    model = Seq2Seq(50, Transformer.Config(**SMALL, leak_targets=leak)).train(train)
    tokens = torch.randint(50, (1, 12), generator=generator(1))
    cut = 5
    changed = torch.cat([tokens[:, :cut], (tokens[:, cut:] + 7) % 50], 1)
    with torch.set_grad_enabled(train):
        return model.output(model(tokens)), model.output(model(changed)), cut


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_no_position_sees_a_later_token(train: bool) -> None:
    before, after, cut = logits_before_and_after(leak=False, train=train)
    torch.testing.assert_close(before[:, :cut], after[:, :cut], rtol=0, atol=1e-5)
    assert (before[:, cut:] - after[:, cut:]).abs().amax(-1).min() > 1e-2  # the change itself is seen


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_leaking_targets_shows_later_tokens(train: bool) -> None:
    before, after, cut = logits_before_and_after(leak=True, train=train)
    assert (before[:, :cut] - after[:, :cut]).abs().amax(-1).min() > 1e-3


def test_every_earlier_token_is_seen() -> None:
    torch.manual_seed(0)
    model = Seq2Seq(50, Transformer.Config(**SMALL))
    embedded = model.encoder_embedding.weight
    tokens = torch.arange(12).unsqueeze(0)
    model(tokens)[0, -1, 0].backward()
    assert (embedded.grad[:12].abs().amax(1) > 1e-4).all()


def test_the_target_is_the_next_token(folder: Path) -> None:
    """A model that always bets on the word after next is wrong, one that bets on the next is right."""
    task, data = build(folder)
    rows = data.train.take(torch.arange(4))[0]

    class Oracle(nn.Module):
        def __init__(self, ahead: int) -> None:
            super().__init__()
            words = data.info["vocabulary"]
            self.output = nn.Linear(words, words)
            self.output.weight.data = 50 * torch.eye(words)
            nn.init.zeros_(self.output.bias)
            self.ahead = ahead

        def forward(self, tokens: Tensor) -> Tensor:
            assert torch.equal(tokens, rows[:, :-1])
            return F.one_hot(
                torch.cat([rows, rows[:, :1]], 1)[:, self.ahead :][:, :12], len(self.output.weight)
            ).float()

    assert task.loss(Oracle(1), (rows,)) < 1e-6
    assert task.loss(Oracle(2), (rows,)) > 10


# -- attention and dropout on a processor -----------------------------------------------------------------------------


def test_the_transformer_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same parameters and initialisation as `nn.Transformer`, and the same outputs and gradients but for the noise."""
    monkeypatch.setattr(attention, "_noise", lambda shape, p, dtype: torch.ones(shape, dtype=dtype))
    torch.manual_seed(0)
    ours = attention.transformer(16, 4, 2, 32, dropout=0.5).double().train()
    torch.manual_seed(1)
    torchs = nn.Transformer(16, 4, 2, 2, 32, dropout=0.0, batch_first=True).double().train()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in torchs.state_dict().items()}
    spreads = zip(ours.parameters(), torchs.parameters(), strict=True)
    assert all(a.std().item() == pytest.approx(b.std().item(), rel=0.25, abs=1e-12) for a, b in spreads)
    torchs.load_state_dict(ours.state_dict())
    source, target = torch.randn(3, 5, 16).double(), torch.randn(3, 5, 16).double()
    mask = nn.Transformer.generate_square_subsequent_mask(5).double()
    masks = {"src_mask": mask, "tgt_mask": mask, "memory_mask": mask}
    hints = {"src_is_causal": True, "tgt_is_causal": True, "memory_is_causal": True}
    for options in ({}, masks, masks | hints):
        found, expected = ours(source, target, **options), torchs(source, target, **options)
        torch.testing.assert_close(found, expected)
        weight = torch.randn_like(found)
        gradients = [
            torch.autograd.grad((out * weight).sum(), list(model.parameters()))
            for out, model in ((found, ours), (expected, torchs))
        ]
        torch.testing.assert_close(*gradients)
    torch.testing.assert_close(ours.eval()(source, target, **masks), torchs.eval()(source, target, **masks))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_keeps_the_mean(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    dropout = attention.Dropout(0.2)
    ones = torch.ones(401, 999, dtype=dtype)
    dropped = dropout(ones)
    assert dropped.dtype == dtype
    assert dropped.unique().tolist() == pytest.approx([0, 1.25], rel=5e-3)
    share = (dropped == 0).double().mean(1)  # 401 shares of 999 values: the whole has a standard error of 0.0006
    assert share.mean().item() == pytest.approx(0.2, abs=0.002)
    assert share.std().item() == pytest.approx(math.sqrt(0.2 * 0.8 / 999), rel=0.15)
    assert not torch.equal(dropped, dropout(ones))
    torch.manual_seed(0)
    assert torch.equal(dropped, dropout(ones))
    assert torch.equal(dropout.eval()(ones), ones)


def test_attention_drops_weights_in_training() -> None:
    """Attended values average to what attention without dropout gives, and vary by draw."""
    torch.manual_seed(0)
    layer = attention.Attention(8, 2, dropout=0.3, batch_first=True)
    x = torch.randn(1, 6, 8)
    draws = torch.stack([layer(x, x, x, need_weights=False)[0] for _ in range(4000)])
    expected = layer.eval()(x, x, x, need_weights=False)[0]
    error = (draws.mean(0) - expected).abs() / (draws.std(0) / math.sqrt(4000))
    assert draws.std(0).min() > 0.01
    assert error.max() < 5


# -- the chunked output layer -----------------------------------------------------------------------------------------


def layer(positions: int, width: int, words: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    hidden, weight, bias = (
        torch.randn(size, dtype=dtype, requires_grad=True) for size in ((positions, width), (words, width), (words,))
    )
    return [hidden, weight, bias, torch.randint(words, (positions,))]


@pytest.mark.parametrize("chunk", [0, 1, 7, 20, 64])
def test_chunked_loss_and_gradients_equal_the_whole(chunk: int) -> None:
    hidden, weight, bias, target = layer(20, 8, 37)
    whole = F.cross_entropy(F.linear(hidden, weight, bias), target)
    expected = torch.autograd.grad(3 * whole, (hidden, weight, bias))
    loss = linear_cross_entropy(hidden, weight, bias, target, chunk)
    found = torch.autograd.grad(3 * loss, (hidden, weight, bias))
    torch.testing.assert_close(loss, whole, rtol=1e-12, atol=0)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def test_chunked_loss_in_float32_on_a_large_vocabulary() -> None:
    hidden, weight, bias, target = layer(300, 16, 5000, torch.float32)
    exact = F.cross_entropy(F.linear(hidden.double(), weight.double(), bias.double()), target)
    expected = torch.autograd.grad(exact, (hidden, weight, bias))
    loss = linear_cross_entropy(hidden, weight, bias, target)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    for ours, theirs in zip(torch.autograd.grad(loss, (hidden, weight, bias)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)


def test_chunked_loss_under_autocast_is_as_good_as_torchs() -> None:
    hidden, weight, bias, target = layer(300, 16, 500, torch.float32)
    exact = F.cross_entropy(F.linear(hidden, weight, bias), target)
    expected = torch.autograd.grad(exact, (hidden, weight, bias))
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, bias, target, 64)
        theirs = F.cross_entropy(F.linear(hidden, weight, bias), target)
    assert loss.dtype == torch.float32
    assert abs(loss - exact) < 5e-3
    ours = torch.autograd.grad(loss, (hidden, weight, bias))
    plain = torch.autograd.grad(theirs, (hidden, weight, bias))
    for gradient, torchs, right in zip(ours, plain, expected, strict=True):
        assert gradient.dtype == right.dtype
        error, allowed = (gradient - right).norm(), (torchs - right).norm()
        assert 0 < error < 1.2 * allowed  # above zero: the products did run in bfloat16


def test_backward_twice_and_frozen_weights() -> None:
    hidden, weight, bias, target = layer(10, 4, 9)
    loss = linear_cross_entropy(hidden, weight.detach(), bias, target, 4)
    first = torch.autograd.grad(loss, (hidden, bias), retain_graph=True)
    second = torch.autograd.grad(loss, (hidden, bias))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_gradient_of_the_chunked_loss_can_be_differentiated() -> None:
    hidden, weight, bias, target = layer(6, 3, 5)

    def loss(*inputs: Tensor) -> Tensor:
        return linear_cross_entropy(*inputs, target, 4)

    assert torch.autograd.gradgradcheck(loss, (hidden, weight, bias))
    frozen = weight.detach()
    assert torch.autograd.gradgradcheck(lambda h, b: loss(h, frozen, b), (hidden, bias))


def test_extreme_logits_stay_finite() -> None:
    hidden = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0], [-1.0]], requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, torch.zeros(3), torch.tensor([2, 2]))
    loss.backward()
    assert loss.item() == pytest.approx(1e4)  # one position is off by 2e4, the other right
    assert hidden.grad.isfinite().all()


def test_scores_equal_those_of_whole_logits() -> None:
    hidden, weight, bias, target = layer(50, 8, 6)
    logits = F.linear(hidden, weight, bias)
    loss, accuracy = linear_scores(hidden, weight, bias, target, 16)
    assert loss.item() == pytest.approx(F.cross_entropy(logits, target).item(), rel=1e-12)
    assert accuracy.item() == (logits.argmax(1) == target).double().mean().item() > 0


def test_evaluation_weights_every_token_alike(folder: Path) -> None:
    task, data = build(folder)
    torch.manual_seed(0)
    model = task.model(data).eval()
    assert len(data.test) % 32  # the last step is smaller than the others
    with torch.no_grad():
        found = task.evaluate(model, data.test)
        rows = data.test.tensors[0]
        logits = model.output(model(rows[:, :-1])).double()
        expected = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).item()
        right = (logits.argmax(-1) == rows[:, 1:]).double().mean().item()
    assert found["loss"] == pytest.approx(expected, rel=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    assert found["accuracy"] == pytest.approx(right, abs=1e-9)


# -- texts ------------------------------------------------------------------------------------------------------------


def test_the_vocabulary_comes_from_the_training_text_alone(tmp_path: Path) -> None:
    folder = write_texts(
        tmp_path / "text", train=["alpha beta alpha"] * 9, validation=["alpha gamma"] * 9, test=["delta delta"] * 9
    )
    _, data = build(folder, seq_len=4)
    assert data.info["vocabulary"] == 4  # <unk>, <eos>, alpha, beta
    assert data.train.tensors[0][0].tolist() == [2, 3, 2, 1, 2]
    assert data.val.tensors[0][0].tolist() == [2, 0, 1, 2, 0]
    assert data.test.tensors[0].unique().tolist() == [0, 1]


def test_rare_words_and_written_unknowns_are_unk() -> None:
    vocabulary = Vocabulary(["one one <unk> two", "One <eos> one <unk> <unk>"], tokens="whitespace", min_count=2)
    assert vocabulary.words == ["<unk>", "<eos>", "one"]
    assert vocabulary.encode(["one two <unk>", "", "  ", "ONE"]).tolist() == [2, 0, 0, 1, 2, 1]


def test_case_is_kept_where_asked() -> None:
    assert Vocabulary(["One one"], lowercase=False).words[2:] == ["One", "one"]


def test_words_are_split_from_punctuation() -> None:
    text = "It's 10 @-@ year <unk>, isn't_x(y)."
    expected = ["it", "'s", "10", "@-@", "year", "<unk>", ",", "isn", "'", "t_x", "(", "y", ")", "."]
    vocabulary = Vocabulary([text])
    assert [vocabulary.words[i] for i in vocabulary.encode([text])][:-1] == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("i don't, can't and won't.", "i do n't , ca n't and wo n't ."),
        ("cannot it's they'll", "can not it 's they 'll"),
        ("3.14 or 1,000 or 12:30, at 5 %", "3.14 or 1,000 or 12:30 , at 5 %"),
        ("state-of-the-art and/or x_y", "state-of-the-art and/or x_y"),
        ("a @-@ b @,@ $5; (one) [two]", "a @ - @ b @ , @ $ 5 ; ( one ) [ two ]"),
        ('he said: "why?" -- and left…', "he said : `` why ? '' -- and left…"),
        ("the u.s. army won. it left.", "the u.s. army won. it left ."),  # one sentence: only the last period is apart
    ],
)
def test_words_are_nltks_where_asked(text: str, words: str) -> None:
    vocabulary = Vocabulary([text], tokens="nltk")
    assert [vocabulary.words[i] for i in vocabulary.encode([text])][:-1] == words.split()
    assert [Vocabulary([text]).words[i] for i in Vocabulary([text]).encode([text])][:-1] != words.split()


def test_data_of_another_splitting_have_another_fingerprint(tmp_path: Path) -> None:
    text = ["they don't pay 1,000 dollars for a well-known 3.14"] * 3
    folder = write_texts(tmp_path / "text", train=text, validation=text, test=text)
    kinds: list[dict[str, object]] = [{"tokens": tokens} for tokens in ("words", "nltk", "whitespace")]
    found = {build(folder, **kind)[1].fingerprint() for kind in [*kinds, {"separate_chunks": True}]}
    assert len(found) == 4


def test_the_released_codes_chunks_share_no_token(folder: Path) -> None:
    """Of each 12 tokens the first 11 are inputs and the last 11 targets; one more word is never seen."""
    task, data = build(folder, separate_chunks=True, pad_word=True)
    text = (folder / "train.txt").read_text().splitlines()
    stream = Vocabulary(text).encode(text)
    rows = data.train.tensors[0]
    assert rows.shape == (len(stream) // 12, 12)
    assert torch.equal(rows.flatten(), stream[: rows.numel()])
    assert data.info["vocabulary"] == len(Vocabulary(text)) + 1 == rows.max() + 2
    model = task.model(data)
    assert model(rows[:3, :-1]).shape == (3, 11, 16)
    assert model.output.out_features == data.info["vocabulary"]
    assert task.loss(model, (rows[:3],)).isfinite()
    assert chunks(torch.arange(12), 5, shared=0).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert chunks(torch.arange(5), 5, shared=0).shape == (0, 6)


def test_chunks_cover_every_token_once() -> None:
    rows = chunks(torch.arange(23), 5)
    assert rows[:, :-1].flatten().tolist() == list(range(20))
    assert rows[:, 1:].flatten().tolist() == list(range(1, 21))
    assert chunks(torch.arange(5), 5).shape == (0, 6)
    assert chunks(torch.arange(6), 5).tolist() == [[0, 1, 2, 3, 4, 5]]


def test_topics_share_no_paragraph_between_splits() -> None:
    corpus = topics(generator())
    train, val, test = set(corpus.train), set(corpus.val), set(corpus.test)
    assert not train & (val | test)
    assert not val & test
    words = [sum(len(p.split()) for p in part) for part in (corpus.train, corpus.val, corpus.test)]
    assert sum(words) > 40_000
    assert all(0.07 < count / sum(words) <= 0.1 for count in words[1:])


def test_topics_are_split_by_the_split_seed() -> None:
    assert topics(generator(1)) == topics(generator(1))
    assert topics(generator(1)).val != topics(generator(2)).val


def test_other_names_of_the_validation_file(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "text", train=["a"], valid=["b"], test=["c"])
    corpus = load_corpus(str(folder), generator())
    assert (corpus.name, corpus.train, corpus.val, corpus.test) == ("text", ["a"], ["b"], ["c"])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"train": ["a b"], "test": ["a"]}, "no validation split"),
        ({"train": ["a b"], "validation": ["a"]}, "no test split"),
        ({"train": ["a b"], "validation": [" ", ""], "test": ["a"]}, "validation.txt is empty"),
        ({"train": ["a b"], "validation": ["a"], "test": ["a"]}, "has 3 tokens, a chunk needs 13"),
    ],
)
def test_unusable_folders_are_refused_in_one_line(tmp_path: Path, texts: dict[str, list[str]], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        build(write_texts(tmp_path / "text", **texts))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "text", train=["a"], validation=["a"], test=["a"])
    (folder / "test.txt").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(TaskError, match=r"test\.txt cannot be read as UTF-8"):
        build(folder)


def test_unknown_names_are_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="did you mean wikitext2"):
        load_corpus("wikitext", generator())
    with pytest.raises(TaskError, match="neither a folder nor one of topics"):
        load_corpus(str(tmp_path / "nowhere"), generator())
    (tmp_path / "file.txt").touch()
    with pytest.raises(TaskError, match="is a file"):
        load_corpus(str(tmp_path / "file.txt"), generator())


def write_json(folder: Path, column: str, **texts: list[str]) -> Path:
    folder.mkdir()
    for name, lines in texts.items():
        rows = (json.dumps({"number": i, column: line}) for i, line in enumerate(lines))
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    return folder


@pytest.mark.parametrize("column", ["text", "sentence"])
def test_a_folder_that_datasets_reads(tmp_path: Path, column: str) -> None:
    pytest.importorskip("datasets")
    folder = write_json(tmp_path / "rows", column, train=["a b", "c"], validation=["d"], test=["e"])
    corpus = load_corpus(str(folder), generator(), tmp_path / "cache")
    assert (corpus.train, corpus.val, corpus.test) == (["a b", "c"], ["d"], ["e"])


def test_folders_that_datasets_reads_but_lack_something(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    two = write_json(tmp_path / "two", "text", train=["a"], test=["e"])
    with pytest.raises(TaskError, match="no validation split: it has train, test"):
        load_corpus(str(two), generator(), tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError, match=r"no train\.txt, and .datasets. cannot read it") as caught:
        load_corpus(str(tmp_path / "empty"), generator(), tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_wikitext_without_network_names_the_folder_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def offline(*args: object, **options: object) -> None:
        raise ConnectionError("Couldn't reach 'Salesforce/wikitext'\non the hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(TaskError, match=r"no network.*--dataset FOLDER with train\.txt") as caught:
        load_corpus("wikitext2", generator(), tmp_path)
    assert "\n" not in str(caught.value)


# -- the task ---------------------------------------------------------------------------------------------------------


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="d_model 100 must be a multiple of heads 8"):
        Transformer.Config(d_model=100)


def test_paper_sizes() -> None:
    """Encoder 2 x 132,480, decoder 2 x 198,784 and two norms of 256, counted by hand, beside the vocabulary's."""
    config = Transformer.Config(
        **{
            name: v.value
            for name, v in Transformer.presets["paper"].settings.items()
            if name in Transformer.Config.model_fields
        }
    )
    model = Seq2Seq(1000, config)
    # attention: 4 x (128 x 128 + 128); feed-forward: 2 x 128 x 256 + 256 + 128; norm: 2 x 128
    attention, feed_forward, norm = 4 * (128 * 128 + 128), 2 * 128 * 256 + 256 + 128, 2 * 128
    encoder, decoder = attention + feed_forward + 2 * norm, 2 * attention + feed_forward + 3 * norm
    assert sum(p.numel() for p in model.parameters()) == 2 * (encoder + decoder) + 2 * norm + 1000 * (3 * 128 + 1)
    assert model.state_dict().keys() == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("preset", "optimizer", "expected"),
    [
        ("paper", "vradam", {"lr": 1.55e-5, "beta3": 3.35, "normgrad": False, "lr_cutoff": 7, "weight_decay": 1e-5}),
        ("paper", "adamw", {"lr": 1.661e-5, "weight_decay": 1e-5}),
        ("paper", "sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0}),
        ("paper", "rmsprop", {"alpha": 0.1, "momentum": 0, "weight_decay": 0}),
        ("released", "adam", {"lr": 1.661e-5, "weight_decay": 1e-5}),
        ("released", "sgd", {"momentum": 0.2, "nesterov": True, "weight_decay": 0}),
        ("released", "rmsprop", {"alpha": 0.1, "momentum": 0.2, "weight_decay": 0}),
    ],
)
def test_settings_of_the_optimizers(preset: str, optimizer: str, expected: dict[str, object]) -> None:
    found = resolve(Transformer, optimizer, preset=preset).request.optimizer_settings
    assert {name: found[name] for name in expected} == expected


def test_the_released_preset_is_the_released_codes() -> None:
    resolved = resolve(Transformer, "adam", preset="released").request
    c, t = resolved.task_settings, resolved.training
    assert (c["dataset"], c["tokens"], c["lowercase"], c["min_count"]) == ("wikitext2-raw", "nltk", True, 1)
    assert (c["seq_len"], c["separate_chunks"], c["pad_word"], c["leak_targets"]) == (64, True, True, True)
    assert (t.schedule, t.accumulate_gradients, t.epochs, t.batch_size) == ("constant", True, 100, 32)
    for name in ("heads", "layers", "dropout"):
        paper, released = (Transformer.presets[preset].settings[name] for preset in ("paper", "released"))
        assert (paper.value, paper.kind, released.kind) == (released.value, "assumed", "stated")


def test_loss_at_initialisation_is_near_a_uniform_guess() -> None:
    task = Transformer(Transformer.Config(min_count=2))
    data = task.data(generator())
    torch.manual_seed(0)
    model = task.model(data).eval()
    with torch.no_grad():
        loss = task.evaluate(model, data.val)["loss"]
    assert abs(loss - math.log(data.info["vocabulary"])) < 0.5


def train(task: Transformer, data: Splits, steps: int, lr: float) -> nn.Module:
    torch.manual_seed(0)
    model = task.model(data).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    order = generator(0)
    for _ in range(steps):
        index = torch.randint(len(data.train), (16,), generator=order)
        optimizer.zero_grad()
        task.loss(model, task.train_batch(data.train, index, order)).backward()
        optimizer.step()
    return model.eval()


def test_it_learns_a_text_whose_words_follow_from_each_other(folder: Path) -> None:
    task, data = build(folder)
    with torch.no_grad():
        before = task.evaluate(train(task, data, 0, 0.01), data.val)
    model = train(task, data, 150, 0.01)
    with torch.no_grad():
        after = task.evaluate(model, data.val)
    # One word in nine, the first of a sentence, is a free choice among 14; one in nine is <eos> after the eighth.
    floor = math.log(14) / 9
    assert before["loss"] > 2.3
    assert floor * 0.8 < after["loss"] < floor + 0.5
    assert after["accuracy"] > 0.75


@pytest.mark.slow
def test_leaking_targets_beats_what_can_be_known(folder: Path) -> None:
    """With the answer in sight even the free choices are predicted: the loss falls below the text's entropy."""
    task, data = build(folder, leak_targets=True)
    model = train(task, data, 400, 0.005)
    with torch.no_grad():
        assert task.evaluate(model, data.val)["loss"] < 0.75 * math.log(14) / 9


def test_the_plain_implementation_of_the_benchmark_learns_the_same(folder: Path) -> None:
    task, data = build(folder, dropout=0.2)
    steps = plain(task, data, batch_size=16, seed=0)
    losses = [next(steps) for _ in range(60)]
    assert abs(losses[0] - math.log(data.info["vocabulary"])) < 0.5
    assert losses[-1] < losses[0] - 0.15
    assert sum(p.numel() for p in Plain(16, task.config).parameters()) == sum(
        p.numel() for p in task.model(data).parameters()
    )


@pytest.mark.gpu
def test_training_step_on_a_gpu_equals_the_cpus_and_never_waits(folder: Path) -> None:
    task, data = build(folder)
    torch.manual_seed(0)
    model = task.model(data).train()
    index = torch.arange(8)
    expected = task.loss(model, data.train.take(index)).item()
    device = torch.device("cuda")
    model, batch = model.to(device), data.train.to(device).take(index.to(device))
    task.loss(model, batch).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = task.loss(model, batch)
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert loss.item() == pytest.approx(expected, rel=1e-3)
