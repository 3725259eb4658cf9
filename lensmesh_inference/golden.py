"""One drawn scene, always the same, that start-up checks and canaries of both model services are made with."""

import io

from PIL import Image, ImageDraw


def golden_picture() -> Image.Image:
    """The scene: a red disc and a blue square on white, 224 pixels wide and high."""
    picture = Image.new("RGB", (224, 224), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((20, 40, 100, 120), fill="red")
    draw.rectangle((130, 110, 200, 180), fill="blue")
    return picture


def golden_png() -> bytes:
    """The scene as a PNG file."""
    file = io.BytesIO()
    golden_picture().save(file, "PNG")
    return file.getvalue()
