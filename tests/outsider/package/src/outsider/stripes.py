"""A kind of images of one's own."""

import numpy as np

from trueboundary.data import ImageData, ImageSource, register_image_source


class Stripes(ImageSource):
    """Small images of noisy stripes, upright or level."""

    name, title = "stripes", "stripes"
    class_names = ("upright", "level")
    n_components, n_factors = 1, 2

    def load(self, classes: tuple[str, ...], part: str, size: int | None = None) -> ImageData:
        rng = np.random.default_rng(["train", "test"].index(part))
        labels = np.repeat([0, 1], 100)
        wave = np.sin(np.arange(6) + rng.uniform(0, 1, size=(200, 1)))  # (n, 6)
        images = 0.5 + 0.3 * np.repeat(wave[:, None, :], 6, axis=1)  # (n, 6, 6)
        images[labels == 1] = images[labels == 1].transpose(0, 2, 1)
        images += 0.05 * rng.normal(size=images.shape)
        return ImageData(
            images=images.clip(0, 1).astype(np.float32)[..., None],
            labels=labels,
            class_names=self.class_names,
            split=np.zeros(200, np.int64),
            split_names=(part,),
        )


register_image_source(Stripes())
