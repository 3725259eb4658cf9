"""Files of vectors, of three kinds."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lensmesh_cli.printable import encodable, json_line, printable

Matrix = NDArray[np.float32]


def check(output: Path) -> str:
    """Say what is missing to write that file; "" if nothing is."""
    if output.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        return 'writing .parquet needs pyarrow: pip install "lensmesh[parquet]", or choose .npy or .jsonl'
    if not output.parent.is_dir():
        return f"there is no folder {output.parent}"
    return ""


def write_npy(output: Path, paths: Sequence[Path], vectors: Matrix, space_id: str) -> None:
    """Write the matrix, and the paths into FILE.paths.txt, one a line."""
    np.save(output, vectors)
    output.with_suffix(".paths.txt").write_text(
        "".join(f"{printable(str(path))}\n" for path in paths), encoding="utf-8"
    )


def write_jsonl(output: Path, paths: Sequence[Path], vectors: Matrix, space_id: str) -> None:
    """Write one object a line: path, space_id, vector."""
    with output.open("w", encoding="utf-8") as file:
        for path, vector in zip(paths, vectors, strict=True):
            row = {"path": str(path), "space_id": space_id, "vector": [float(number) for number in vector]}
            file.write(json_line(row) + "\n")


def write_parquet(output: Path, paths: Sequence[Path], vectors: Matrix, space_id: str) -> None:
    """Write the columns path, space_id and vector, a list of float32 of fixed size."""
    import pyarrow
    import pyarrow.parquet

    numbers = pyarrow.array(np.ascontiguousarray(vectors).reshape(-1))
    table = pyarrow.table(
        {
            "path": pyarrow.array([encodable(path) for path in paths]),
            "space_id": pyarrow.array([space_id] * len(paths)),
            "vector": pyarrow.FixedSizeListArray.from_arrays(numbers, vectors.shape[1]),
        }
    )
    pyarrow.parquet.write_table(table, output)


WRITERS: dict[str, Callable[[Path, Sequence[Path], Matrix, str], None]] = {
    ".parquet": write_parquet,
    ".npy": write_npy,
    ".jsonl": write_jsonl,
}
