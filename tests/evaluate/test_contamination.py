import shutil

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate

from preceptor.evaluate.contamination import Passage, of_text
from preceptor.evaluate.resemblance import of_images
from preceptor.recipe import build
from preceptor.recipe.load import recipe_of
from tests.data.image_files import fill
from tests.verbs.small import small


def passages(name, *texts):
    return [Passage(f"{name}:{i}", text, text) for i, text in enumerate(texts)]


LONG = "the quick brown fox jumps over the lazy dog while two grey owls look on in silence"


def test_a_row_that_stands_in_training_is_exact_whatever_its_blanks():
    found = of_text(passages("train", "one", "a  b\nc d"), passages("test", "a b c d", "e"))
    assert (found.tested, found.trained, found.exact, found.near, found.unjudged) == (2, 2, 1, 0, 2)
    assert found.found == ("test:0 is in train:1",)
    assert "of 2 test examples 1 stand among 2 training examples as they are" in found.sentence()


def test_two_texts_of_one_row_are_named_once():
    pair = [Passage("g.csv, row 1", text, text) for text in ("a b", "c d")]
    rows = [Passage("docs.txt:45", text, text) for text in ("a b", "c d")]
    found = of_text(rows, pair)
    assert (found.exact, found.found) == (2, ("g.csv, row 1 is in docs.txt:45",))


def test_the_same_question_with_another_answer_is_exact():
    train = [Passage("train:0", "2+2=", "2+2= 4")]
    test = [Passage("test:0", "2+2=", "2+2= 5"), Passage("test:1", "2+3=", "2+3= 5")]
    assert of_text(train, test).exact == 1


def test_thirteen_words_in_a_row_are_found_whatever_stands_around_and_between_them():
    words = LONG.split()
    assert len(words) == 17
    hidden = "Once more: " + LONG.upper().replace(" ", ", ") + "!"
    twelve = " ".join(words[:12]) + " but not the rest of it as it once stood there"
    near = of_text(passages("train", "x", hidden), passages("test", LONG))
    assert (near.exact, near.near, near.found) == (0, 1, ("test:0 resembles train:1",))
    assert of_text(passages("train", twelve), passages("test", LONG)).near == 0
    # Of its five sequences of 13 words two are met, then three.
    for count, expected in ((14, 0), (15, 1)):
        part = passages("train", " ".join(words[:count]))
        assert of_text(part, passages("test", LONG)).near == expected


def test_words_are_not_joined_over_the_border_of_two_rows():
    first, second = " ".join(LONG.split()[:9]), " ".join(LONG.split()[9:])
    assert of_text(passages("train", first, second), passages("test", LONG)).near == 0


def test_a_short_row_is_near_where_all_its_words_stand_in_a_row():
    train = passages("train", "Tom has three red apples, and Ann has none.")
    test = passages("test", "has three red apples and", "has three red apples or", "red apples")
    found = of_text(train, test)
    assert (found.near, found.unjudged, found.found) == (1, 1, ("test:0 resembles train:0",))


def test_signs_of_scripts_without_blanks_count_each():
    text = "我们今天去公园散步然后回家吃饭"
    found = of_text(passages("train", "他说" + text + "吧"), passages("test", text))
    assert found.near == 1


def pictures(count, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator).to(torch.uint8)


def test_the_same_pixels_are_exact_and_a_lighter_noisy_copy_is_near():
    train, test = pictures(9), pictures(6, seed=1)
    test[2] = train[7]
    noise = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(2))
    test[4] = (20 + 0.8 * train[5].float() + 8 * noise).clamp(0, 255).to(torch.uint8)
    found = of_images(train.split(4), test.split(4))
    assert (found.tested, found.trained, found.exact, found.near, found.unjudged) == (6, 9, 1, 1, 0)
    assert found.found == (
        "test image 2 is training image 7",
        "test image 4 resembles training image 5",
    )


def test_images_of_one_colour_are_near_to_none():
    plain = torch.full((4, 3, 32, 32), 200, dtype=torch.uint8)
    assert of_images([plain], [plain - 9]).near == 0
    assert of_images([plain], [plain]).exact == 4


def test_small_images_are_compared_exactly_alone():
    train, test = pictures(5, size=8), pictures(3, size=8, seed=1)
    test[0] = train[1]
    test[1] = train[2] // 2
    found = of_images([train], [test])
    assert (found.exact, found.near, found.unjudged) == (1, 0, 3)


def drawn(count, seed):
    """Digits as scikit-learn has them, 8 by 8, each another one."""
    pixels, _ = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(pixels))[:count]
    return torch.from_numpy(pixels[order] * 15).reshape(-1, 1, 8, 8).to(torch.uint8)


def test_images_that_were_enlarged_are_judged_as_they_were():
    train, test = drawn(300, 0).split([260, 40])
    large = [part.repeat_interleave(2, 2).repeat_interleave(2, 3) for part in (train, test)]
    found = of_images([large[0]], [large[1]])
    assert (found.exact, found.near, found.unjudged) == (0, 0, 40)


def test_images_as_alike_as_those_of_training_are_not_near_but_copies_are():
    images = interpolate(drawn(700, 1).float(), 32, mode="bilinear")
    train, test = images.split([600, 100])
    noise = torch.randn(test[:3].shape, generator=torch.Generator().manual_seed(0))
    test[:3] = train[10:13] * 0.9 + 9 + 2 * noise
    train, test = (part.clamp(0, 255).to(torch.uint8) for part in (train, test))
    flat = [part.flatten(1).numpy().astype(float) for part in (train, test)]
    fixed = (np.corrcoef(*flat)[600:, :600] >= 0.95).any(axis=1).sum()
    assert fixed > 20
    test[3] = train[20]
    found = of_images(train.split(100), test.split(64), tested_name=lambda index: f"t{index}.png")
    assert (found.exact, found.near, found.unjudged) == (1, 3, 0)
    assert found.found[:2] == (
        "test image t3.png is training image 20",
        "test image t0.png resembles training image 10",
    )
    assert "3 more resemble one" in found.sentence()


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_change_nothing(chunk):
    train, test = pictures(12), pictures(7, seed=1)
    test[6] = train[11]
    assert of_images(train.split(chunk), test.split(chunk)) == of_images([train], [test])


def test_images_from_files_are_named_by_them(tmp_path):
    for part in ("train", "val"):
        fill(tmp_path / part, ["a", "b"], each=6, side=20)
    (tmp_path / "test" / "a").mkdir(parents=True)
    shutil.copy(tmp_path / "train" / "a" / "5.png", tmp_path / "test" / "a" / "one.png")
    said = {"kind": "images", "source": str(tmp_path)}
    found = build.subject(recipe_of(small(data=said))).contamination()
    assert (found.tested, found.trained, found.exact, found.near) == (1, 12, 1, 0)
    assert found.found == ("test image test/a/one.png is training image train/a/5.png",)
