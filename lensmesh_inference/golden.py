"""A drawn scene, always the same, for the start-up checks and canaries of both model services."""

import io

from PIL import Image, ImageDraw


def golden_image() -> Image.Image:
    """Draw the scene: a red disc and a blue square on white, 224 pixels wide and high."""
    image = Image.new("RGB", (224, 224), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 40, 100, 120), fill="red")
    draw.rectangle((130, 110, 200, 180), fill="blue")
    return image


def golden_png() -> bytes:
    """Return the scene as a PNG file."""
    file = io.BytesIO()
    golden_image().save(file, "PNG")
    return file.getvalue()
