"""A mesh on a store of one's own."""

import hashlib
from pathlib import Path

from tests.support.meshes import draw_images, mock_mesh


def test_up_on_qdrant(tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 6)
    store = f"qdrant+local:{tmp_path / 'vectors'}"
    with mock_mesh(tmp_path, "--store-url", store) as mesh:
        assert "database" not in mesh.addresses
        assert mesh.json("ingest", tmp_path / "images")["stored"] == 6
        assert "qdrant local mode" in mesh.run("status").stdout
    # What was acknowledged is there after a restart.
    with mock_mesh(tmp_path, "--store-url", store) as mesh:
        image = tmp_path / "images" / "p0003.png"
        found = mesh.json("search", "--image", image, "--limit", "1")
        assert found["hits"][0]["id"] == hashlib.sha256(image.read_bytes()).hexdigest()
