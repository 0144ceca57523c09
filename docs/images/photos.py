"""Cut scikit-learn's two photographs into squares: photos/224/*.png, and shrunk photos/32/*.png."""

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images

corners = {"china": (150, 60), "flower": (230, 40)}
for name, pixels in zip(corners, load_sample_images().images, strict=True):
    left, top = corners[name]
    square = Image.fromarray(pixels).crop((left, top, left + 336, top + 336))
    for side in (224, 32):
        folder = Path("photos", str(side))
        folder.mkdir(parents=True, exist_ok=True)
        square.resize((side, side), Image.Resampling.LANCZOS).save(folder / f"{name}.png")
