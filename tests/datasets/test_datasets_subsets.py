"""Subsets of data sets: proportional, drawn anew for each seed, and each image once."""

import torch
from loading import load

from selbench._kit.randomness import seeded
from selbench.datasets import split_validation, stratified_order


def uneven_labels():
    return torch.repeat_interleave(torch.arange(4), torch.tensor([100, 50, 25, 5]))


def test_stratified_order_is_a_permutation():
    order = stratified_order(uneven_labels(), seeded("order", 0))
    assert order.sort().values.tolist() == list(range(180))


def test_every_prefix_of_a_stratified_order_is_proportional():
    labels = uneven_labels()
    ordered = labels[stratified_order(labels, seeded("order", 1))]
    seen = torch.nn.functional.one_hot(ordered, 4).cumsum(0)
    expected = torch.arange(1, 181)[:, None] * labels.bincount() / 180
    assert (seen - expected).abs().max() < 1.5


def test_stratified_order_differs_per_generator_and_is_the_same_for_the_same_one():
    labels = uneven_labels()
    first, same, other = (stratified_order(labels, seeded("order", seed)) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_validation_images_are_held_out_of_training(tree):
    rest, held_out = split_validation(tree.train, 12, seeded("validation", 0))
    assert len(rest) == 36
    assert held_out.labels.bincount().tolist() == [4, 4, 4]
    assert sorted([*rest.examples.tolist(), *held_out.examples.tolist()]) == list(range(48))
    for split in (rest, held_out):
        assert torch.equal(split.images, tree.train.images[split.examples])
        assert torch.equal(split.labels, tree.train.labels[split.examples])


def test_validation_images_are_drawn_anew_for_each_seed(tree):
    first, same, other = (
        split_validation(tree.train, 12, seeded("validation", seed))[1].examples.tolist()
        for seed in (0, 0, 1)
    )
    assert first == same != other


def test_taken_images_stay_channels_last(tree):
    taken = tree.train.take(torch.tensor([5, 3]))
    assert taken.images.is_contiguous(memory_format=torch.channels_last)
    assert taken.examples.tolist() == [5, 3]


def test_the_first_classes_are_a_data_set_of_their_own(image_tree):
    root = image_tree()
    whole, part = load("folder", root), load("folder", root, classes=2)
    assert part.classes == whole.classes[:2]
    for all_images, own in ((whole.train, part.train), (whole.test, part.test)):
        chosen = all_images.labels < 2
        assert torch.equal(own.images, all_images.images[chosen])
        assert torch.equal(own.labels, all_images.labels[chosen])
        assert own.examples.tolist() == list(range(int(chosen.sum())))
        assert own.checksum != all_images.checksum
    assert set(part.test.labels.tolist()) == {0, 1}


def test_all_classes_are_the_data_set_itself(image_tree):
    root = image_tree()
    whole, same = load("folder", root), load("folder", root, classes=3)
    assert same.test.checksum == whole.test.checksum
