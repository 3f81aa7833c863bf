import json

import numpy as np
import pytest
import torch

from preceptor.data.augment import Augment
from preceptor.data.image_source import ImageSource, rest
from preceptor.data.images import image_set
from preceptor.data.stratified import few_labels
from preceptor.data.toy import toy_images
from preceptor.errors import DataError

IMAGES = toy_images(30)
FEW = few_labels(IMAGES.labels, 9, seed=0)


def numpy_words():
    """A copy of the state of numpy's global generator."""
    state = np.random.get_state(legacy=False)
    return np.array(state["state"]["key"])  # type: ignore[index]


def source(**changes):
    given = {
        "labelled": FEW,
        "unlabelled": rest(IMAGES, FEW),
        "batch": 4,
        "unlabelled_batch": 6,
        "seed": 3,
        "augment": Augment(crop=2, flip=False),
    }
    return ImageSource(IMAGES, **(given | changes))


def parts(batch):
    return {
        "inputs": torch.as_tensor(batch.inputs),
        "labels": batch.labels,
        "labelled": batch.mask("labelled"),
        "ids": batch.ids,
        "view": batch.view,
    }


def assert_same(one, other):
    for name, value in parts(one).items():
        assert torch.equal(value, parts(other)[name]), name


def test_labelled_draws_come_first_and_unlabelled_ones_hide_their_labels():
    batch = source().take()
    assert len(batch) == 10
    assert batch.mask("labelled").tolist() == [True] * 4 + [False] * 6
    assert torch.equal(batch.labels[:4], IMAGES.labels[batch.ids[:4]])
    assert batch.labels[4:].tolist() == [-1] * 6
    assert set(batch.ids[:4].tolist()) <= set(FEW.tolist())
    assert not set(batch.ids[4:].tolist()) & set(FEW.tolist())
    assert batch.mask("all").all()


def test_labels_tell_what_training_may_read():
    labels = source().labels
    assert torch.equal(labels[FEW], IMAGES.labels[FEW])
    assert (labels[rest(IMAGES, FEW)] == -1).all()


def test_every_epoch_holds_every_id_once_and_the_next_follows_without_a_gap():
    stream = source(unlabelled_batch=0)
    ids = torch.cat([stream.take().ids for _ in range(9)]).reshape(4, 9)
    for epoch in ids:
        assert epoch.sort().values.tolist() == FEW.tolist()
    assert len({tuple(epoch.tolist()) for epoch in ids}) == 4


def test_a_batch_larger_than_the_labelled_set_goes_on_in_the_next_epochs():
    small, large = source(batch=3, unlabelled_batch=0), source(batch=21, unlabelled_batch=0)
    whole = large.take()
    apart = [small.take() for _ in range(7)]
    assert torch.equal(whole.ids, torch.cat([batch.ids for batch in apart]))
    assert torch.equal(
        torch.as_tensor(whole.inputs), torch.cat([torch.as_tensor(b.inputs) for b in apart])
    )
    assert source(batch=21).steps_per_epoch == 1


def test_labelled_draws_do_not_depend_on_the_unlabelled_stream():
    both = source()
    control = both.labelled_only()
    both.take()  # the control begins at the first step wherever the other stands
    both = source()
    for _ in range(8):
        assert_same(both.take().rows(0, 4), control.take())


@pytest.mark.parametrize("world", [2])
def test_ranks_together_draw_what_one_process_draws(world):
    single = source()
    ranks = [source() for _ in range(world)]
    for _ in range(5):
        whole = parts(single.take())
        shares = [parts(each.take(rank, world)) for rank, each in enumerate(ranks)]
        for name, value in whole.items():
            merged = torch.empty_like(value)
            for rank, share in enumerate(shares):
                merged[rank::world] = share[name]
            assert torch.equal(merged, value), name


def test_a_batch_that_ranks_cannot_share_is_refused():
    with pytest.raises(DataError, match=r"batch=4 on 3 processes.*multiple of 3"):
        source().take(0, 3)
    with pytest.raises(DataError, match=r"unlabelled_batch=6 on 4 processes"):
        source().take(0, 4)


def test_a_resumed_source_goes_on_as_if_it_had_never_stopped():
    whole, first = source(), source()
    for _ in range(5):
        whole.take()
        first.take()
    state = json.loads(json.dumps(first.state()))
    resumed = source()
    resumed.load_state(state)
    for _ in range(6):
        assert_same(whole.take(), resumed.take())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"batch": 5},
        {"augment": None},
        {"augment": Augment(crop=1, flip=False)},
        {"unlabelled": None, "unlabelled_batch": 0},
        {"labelled": FEW[:-1]},
    ],
)
def test_a_state_of_other_draws_is_refused(change):
    with pytest.raises(DataError, match="other draws"):
        source(**change).load_state(source().state())


def test_draws_need_no_random_generator():
    torch_state, numpy_state = torch.get_rng_state(), numpy_words()
    source().take()
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(numpy_words(), numpy_state)


def test_a_step_draws_something():
    with pytest.raises(DataError, match="batch=0"):
        source(batch=0)


def test_seeds_draw_differently():
    assert source(seed=1).take().ids.tolist() != source(seed=2).take().ids.tolist()


def test_the_view_counts_each_streams_own_epochs():
    stream = source(augment=Augment(crop=1, views=2), batch=9, unlabelled_batch=7)
    views = torch.stack([stream.take().view for _ in range(4)])
    assert views[:, :9].tolist() == [[1] * 9, [2] * 9, [1] * 9, [2] * 9]
    assert views[:, 9:].tolist() == [[1] * 7, [1] * 7, [1] * 7, [2] * 7]


def test_a_view_is_all_that_is_needed_to_see_the_same_again():
    augment = Augment(crop=2, flip=False)
    stream = source(augment=augment)
    stream.take()
    batch = stream.take()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    again = IMAGES.batch(batch.ids[order], augment=augment, view=batch.view[order])
    assert torch.equal(torch.as_tensor(again.inputs), torch.as_tensor(batch.inputs)[order])


def test_without_augmentation_images_are_plain():
    batch = source(augment=None).take()
    assert batch.view.tolist() == [0] * 10
    plain = IMAGES.batch(batch.ids)
    assert torch.equal(torch.as_tensor(batch.inputs), torch.as_tensor(plain.inputs))


def test_a_sample_takes_nothing_from_the_stream():
    stream, untouched = source(), source()
    sample = stream.sample(11)
    assert sample.ids.tolist() == torch.cat([FEW, rest(IMAGES, FEW)])[:11].tolist()
    assert sample.labels[9:].tolist() == [-1, -1]
    assert_same(stream.take(), untouched.take())
    with pytest.raises(DataError, match="the source has 30"):
        stream.sample(31)


def test_steps_of_an_epoch_reach_every_labelled_example():
    assert [source(batch=size).steps_per_epoch for size in (1, 4, 9, 10)] == [9, 3, 1, 1]


def test_an_omitted_class_is_drawn_from_neither_stream():
    stream = source(omit=[1])
    for _ in range(6):
        ids = stream.take().ids
        assert not (IMAGES.labels[ids] == 1).any()
    assert not (stream.labels == 1).any()
    assert stream.num_classes == 3
    control = stream.labelled_only()
    assert torch.equal(source(omit=[1]).take().ids[:4], control.take().ids)


def test_omission_is_refused_where_it_makes_no_sense():
    with pytest.raises(DataError, match="no class 3"):
        source(omit=[0, 3])
    with pytest.raises(DataError, match="no labelled example is left"):
        source(omit=[0, 1, 2])
    bare = image_set(torch.as_tensor(IMAGES.pixels), source().labels, IMAGES.class_names)
    with pytest.raises(DataError, match="cannot be known"):
        ImageSource(
            bare, labelled=FEW, unlabelled=rest(bare, FEW), batch=2, unlabelled_batch=2, omit=[1]
        )


def test_ids_that_contradict_themselves_are_refused():
    with pytest.raises(DataError, match="1 ids are named twice"):
        source(unlabelled=FEW[:1])
    with pytest.raises(DataError, match="0 to 29"):
        source(labelled=torch.tensor([30]), unlabelled=None, unlabelled_batch=0)
    with pytest.raises(DataError, match="no unlabelled example is left"):
        source(unlabelled=None)
    with pytest.raises(DataError, match="not 0 to 8"):
        ImageSource(IMAGES.subset(FEW + 1), labelled=FEW[:1], batch=1)
    bare = image_set(
        torch.as_tensor(IMAGES.pixels), torch.full_like(IMAGES.labels, -1), IMAGES.class_names
    )
    with pytest.raises(DataError, match="it has none"):
        ImageSource(bare, labelled=FEW, batch=1)
