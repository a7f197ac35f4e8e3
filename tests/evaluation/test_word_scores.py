"""The reader: it tells styles apart by their words, and is ignorant where the words say nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from riffstream.corpus.building import CorpusOptions, build_corpus
from riffstream.corpus.data import Corpus
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.evaluation.probe import recognition
from riffstream.evaluation.word_scores import judge_of_words, sentence_vectors


@pytest.fixture(scope="module")
def family() -> MiniFamily:
    return MiniFamily.load()


def test_vectors_keep_the_order_of_their_texts(family: MiniFamily) -> None:
    texts = ["a long description of slow piano music at night", "techno", "some drums"]
    vectors = sentence_vectors(family, texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.allclose(sentence_vectors(family, [text])[0], vector, atol=0.02)


def test_a_reader_knows_what_words_tell(family: MiniFamily, tmp_path: Path) -> None:
    options = CorpusOptions(out=tmp_path, songs=2, workers=1, soundfonts=(), styles=("chiptune", "ambient_pads"))
    build_corpus(options, quiet=True)
    corpus = Corpus(tmp_path)
    reader = judge_of_words(family, corpus, captions=500)
    asked = ["8-bit chiptune", "ambient pads, drone"], [["square wave lead"], ["warm pad"]]
    told = recognition(reader, list(sentence_vectors(family, asked[0])), ["chiptune", "ambient_pads"], asked[1])
    assert told.style_top1 == 1
    assert told.instrument_precision > 0.4
    swapped = recognition(reader, list(sentence_vectors(family, asked[0])), ["ambient_pads", "chiptune"], asked[1])
    assert swapped.style_top1 == 0
