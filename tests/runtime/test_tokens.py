"""Texts, documents and ids that become the one row that a model is trained on; tokenizers on the way there and back."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mptc.cli import main
from mptc.runtime import codec as codecs
from mptc.runtime.codec import Bytes, read_tokenizer
from mptc.runtime.errors import DataError, UserError
from mptc.runtime.text import read_ids, read_text
from mptc.runtime.tokenize import make_tokenizer, write_ids
from tests.runtime.test_cli import BIGRAM

WORDS = ("the cat sat on the mat", "the dog sat on the log", "naïve — 数学 “quoted”", "a line\n\n\n  and another, after three ends")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(WORDS[int(draw.integers(4))] for _ in range(400)))
    return path


@pytest.fixture
def tokenizer(corpus: Path, tmp_path: Path) -> Path:
    make_tokenizer(str(corpus), 300, str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_a_tokenizer_takes_any_text_and_gives_it_back(corpus: Path, tokenizer: Path) -> None:
    codec = read_tokenizer(tokenizer)
    assert codec.size == 300
    for text in (corpus.read_text(), "\x00\x7f other ߷ 🦜\r\n\t", "".join(map(chr, range(1, 400)))):
        ids = codec.whole(text)
        assert len(ids) and int(ids.max()) < 300
        decode = codec.decoder([])
        assert "".join(decode(int(each)) for each in ids) + decode(-1) == text
    assert len(codec.whole(corpus.read_text())) < len(corpus.read_bytes()) / 2


def test_the_same_text_makes_the_same_tokenizer(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    make_tokenizer(str(corpus), 300, str(tmp_path / "again.json"))
    assert (tmp_path / "again.json").read_bytes() == tokenizer.read_bytes()


def test_pieces_change_no_id(corpus: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long text is encoded in pieces, cut where words end anyway."""
    codec, text = read_tokenizer(tokenizer), corpus.read_text()
    whole = codec.tokenizer.encode(text).ids
    monkeypatch.setattr(codecs, "PIECE", 64)
    assert len(list(codecs._pieces(text))) > 50
    assert codec.whole(text).tolist() == whole
    assert codec.whole("x" * 1000).tolist() == codec.tokenizer.encode("x" * 1000).ids


def test_documents_are_joined_each_with_its_end(tokenizer: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps({"body": word, "n": 1}) + "\n\n" for word in WORDS * 10))
    as_bytes = read_text(path, "tokens", 2, 8, field="body")
    assert bytes(np.concatenate([as_bytes.training, as_bytes.held_out])) == ("\n".join(WORDS * 10) + "\n").encode()
    assert as_bytes.kind == "text"
    codec = read_tokenizer(tokenizer)
    tokens = read_text(path, "tokens", 2, 8, codec, "body")
    ids = np.concatenate([tokens.training, tokens.held_out]).tolist()
    assert tokens.kind == "tokens"
    assert ids.count(0) == 40
    assert codec.tokenizer.decode(ids[: ids.index(0)]) == WORDS[0]
    with pytest.raises(DataError, match=r"some.jsonl:1 has no string text \(--field\); it has body, n$"):
        read_text(path, "tokens", 2, 8)


@pytest.mark.parametrize(
    ("line", "message"), [("{", ":2 is not JSON: "), ("[1]", r":2 has no string text \(--field\)$"), ('{"text": 3}', ":2 has no string text")]
)
def test_a_line_that_is_no_document_is_named(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_text('{"text": "abc"}\n' + line)
    with pytest.raises(DataError, match=f"^error: {tmp_path}/some.jsonl{message}"):
        read_text(tmp_path / "some.jsonl", "tokens", 2, 2)


def test_ids_are_mapped_from_either_kind_of_file(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 1000, 5000)
    np.save(tmp_path / "ids.npy", ids.astype(np.int32))
    (tmp_path / "ids.bin").write_bytes(ids.astype("<u2").tobytes())
    npy, raw = (read_ids(tmp_path / name, "tokens", 4, 16, ("vocab", 1000), "uint16") for name in ("ids.npy", "ids.bin"))
    for text in (npy, raw):
        assert isinstance(text.training, np.memmap)
        batch = text.training_batch(3, 7)["tokens"]
        start = int(np.random.default_rng([3, 7]).integers(0, 4500 - 16 + 1, size=4)[0])
        assert batch[0].tolist() == ids[start : start + 16].tolist()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bin", np.array([1, 2, 300, 4], "<u2").tobytes(), r"a.bin\[2\] is 300: the ids of vocab are 0 to 255; .* read as uint16 \(--ids\)$"),
        ("a.bin", b"abc", r"its 3 bytes are no whole number of uint16 \(--ids\)$"),
        ("a.bin", b"", "is too short: 0 tokens"),
        ("a.npy", b"abc", "cannot read data from .*a.npy: "),
        ("a.npy", np.array([-1]), r"a.npy\[0\] is -1: the ids of vocab are 0 to 255; they were read as int64$"),
        ("a.npy", np.zeros((2, 2), np.int64), r"a.npy is int64 \[2, 2\]; wanted one row of integers"),
        ("a.npy", np.zeros(9), r"a.npy is float64 \[9\]; wanted one row of integers"),
    ],
)
def test_ids_that_do_not_fit(name: str, content: object, message: str, tmp_path: Path) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as raised:
        read_ids(tmp_path / name, "tokens", 2, 4, ("vocab", 256), "uint16")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"model": {"type": "BPE"}}'])
def test_what_is_no_tokenizer(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=r"^error: (cannot read a tokenizer from|.* is not a tokenizer.json of the tokenizers library: )"):
        read_tokenizer(path)


def test_a_tokenizer_has_every_byte(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--vocab is 256; it must be at least 257"):
        make_tokenizer(str(corpus), 256, str(tmp_path / "no.json"))
    assert not (tmp_path / "no.json").exists()


def test_bytes_come_back_when_they_are_whole() -> None:
    decode = Bytes().decoder([])
    assert [decode(each) for each in "é".encode()] == ["", "é"]
    assert decode(0xC3) + decode(-1) == "�"


def test_from_a_text_to_a_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tokenizer, training on a text and on its ids, generating: with the run's own tokenizer, though the file is gone."""
    monkeypatch.chdir(tmp_path)

    def mptc(*words: str) -> Result:
        return CliRunner().invoke(main, words)

    (tmp_path / "bigram.mpt").write_text(BIGRAM)
    (tmp_path / "corpus.txt").write_text("the cat sat on the mat\n" * 200)
    made = mptc("tokenize", "corpus.txt", "--vocab", "300")
    assert made.stdout.startswith("tokenizer.json: 269 tokens, not 300: the text has no more pairs, of 4,600 characters"), made.output
    words = ["train", "bigram.mpt", "--tokenizer", "tokenizer.json", "--steps", "200", "--batch", "8", "--length", "16", "--lr", "0.1"]
    refused = mptc(*words, "--data", "corpus.txt")
    assert refused.exit_code == 1
    assert refused.stderr == "error: model bigram has a vocabulary of 256; the tokens of tokenizer.json need at least 269\n"
    assert not (tmp_path / "runs").exists()
    done = mptc(*words, "--set", "vocab=300", "--data", "corpus.txt")
    assert done.exit_code == 0, done.stderr
    assert " nats per token, accuracy " in done.stdout
    assert mptc("tokenize", "corpus.txt", "--tokenizer", "tokenizer.json", "-o", "ids.npy").exit_code == 0
    (tmp_path / "tokenizer.json").unlink()
    from_ids = mptc(*words[:2], *words[4:], "--set", "vocab=300", "--data", "ids.npy", "--out", "runs/ids")
    assert from_ids.exit_code == 0, from_ids.stderr
    weights = [(tmp_path / f"runs/{out}/step-00000200/model.safetensors").read_bytes() for out in ("bigram", "ids")]
    assert weights[0] == weights[1]
    assert mptc("train", "bigram.mpt", "--set", "vocab=300", "--resume").exit_code == 0
    said = mptc("generate", "runs/bigram", "--prompt", "the", "--prompt", "the cat", "--tokens", "8", "--temperature", "0")
    assert said.exit_code == 0, said.stderr
    one = mptc("generate", "runs/bigram", "--prompt", "the cat", "--tokens", "8", "--temperature", "0")
    assert said.stdout.endswith(one.stdout)
    assert one.stdout == "the cat sat on the mat\nthe cat sat\n"


def test_writing_ids_names_what_it_writes(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ids are written as .npy"):
        write_ids(str(corpus), str(tokenizer), str(tmp_path / "ids.bin"))
