"""The pairs of models that are timed, on data that needs no download."""

from dataclasses import dataclass

import torch

from preceptor.data.augment import Augment
from preceptor.data.image_source import ImageSource
from preceptor.data.images import ImageSet, image_set
from preceptor.models.load import load_model
from preceptor.models.tapped import TappedModel

BATCH = 64


@dataclass(frozen=True)
class Setting:
    """A teacher, a student and images of the size that they are made for.

    Args:
        name: what to call it.
        teacher, student: models of the zoo.
        classes, channels, size: of the images.
        crop: pixels of the random crop; 0 for plain images.
    """

    name: str
    teacher: str
    student: str
    classes: int
    channels: int
    size: int
    crop: int = 0

    def model(self, name: str, seed: int) -> TappedModel:
        """One of the two, freshly drawn."""
        torch.manual_seed(seed)
        shape = {"channels": self.channels, "size": self.size}
        grey = {"mean": [0.5] * self.channels, "std": [0.25] * self.channels}
        return load_model({"zoo": name, "classes": self.classes, **shape, **grey})

    def pair(self) -> tuple[TappedModel, TappedModel]:
        """Teacher (in eval mode) and student; the same at every call."""
        return self.model(self.teacher, 1).eval(), self.model(self.student, 2)

    def images(self, count: int = 1024) -> ImageSet:
        """Noise: what a pixel shows changes no time."""
        generator = torch.Generator().manual_seed(0)
        shape = (count, self.channels, self.size, self.size)
        pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        labels = torch.arange(count) % self.classes
        return image_set(pixels, labels, tuple(str(index) for index in range(self.classes)))

    def augment(self, views: int = 0) -> Augment | None:
        """The literature's crop and flip, or nothing."""
        return Augment(crop=self.crop, views=views) if self.crop else None

    def source(self, images: ImageSet, *, views: int = 0, batch: int = BATCH) -> ImageSource:
        """Batches as training draws them."""
        augment = self.augment(views)
        return ImageSource(images, labelled=images.labelled, batch=batch, augment=augment)


CIFAR = Setting("resnet32x4 -> resnet8x4, 32x32", "resnet32x4", "resnet8x4", 100, 3, 32, crop=4)
DIGITS = Setting("cnn-large -> cnn-small, 8x8", "cnn-large", "cnn-small", 10, 1, 8)
