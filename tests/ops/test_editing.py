import numpy as np
import pytest

from preceptor.ops.editing import edit_similarity, words


def distance(a, b):
    """The textbook's table."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[:], i
        for j, y in enumerate(b, 1):
            row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
    return row[-1]


def test_the_similarity_is_that_of_the_textbooks_table():
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(list("abcd"), generator.integers(0, 12))) for _ in range(80)]
    first, second = texts[:40], texts[40:]
    expected = [
        1 - distance(words(a), words(b)) / max(1, len(words(a)), len(words(b)))
        for a, b in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(edit_similarity(first, second), expected)
    np.testing.assert_allclose(edit_similarity(first, first), 1.0)


@pytest.mark.parametrize(("a", "b", "same"), [("", "", 1.0), ("", "x y", 0.0), ("x", "y", 0.0)])
def test_texts_without_words(a, b, same):
    assert edit_similarity([a], [b]).tolist() == [same]
