"""MATLAB files, one a picture: those of ShanghaiTech, of UCF-QNRF (and UCF-CC-50), and of Beijing-BRT."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from engine.dataset.entry import Entry, as_points
from engine.errors import ConfigError


def read_shanghaitech(folder: Path) -> list[Entry]:
    """``GT_<picture>.mat`` of a folder ``ground-truth``: ``image_info{1,1}.location``, [N, 2] (x, y)."""
    files = sorted(file for file in folder.iterdir() if file.name.startswith("GT_") and file.suffix == ".mat")
    return [_entry(file, file.stem.removeprefix("GT_"), _location(file)) for file in files]


def read_ucf_qnrf(folder: Path) -> list[Entry]:
    """``<picture>_ann.mat`` beside each picture: ``annPoints``, [N, 2] (x, y)."""
    files = sorted(file for file in folder.iterdir() if file.name.endswith("_ann.mat"))
    return [_entry(file, file.stem.removesuffix("_ann"), _variable(file, "annPoints")) for file in files]


def read_beijing_brt(folder: Path) -> list[Entry]:
    """``<picture>.mat`` of a folder ``ground_truth``: ``loc``, [N, 2] (x, y)."""
    files = sorted(file for file in folder.iterdir() if file.suffix == ".mat")
    return [_entry(file, file.stem, _variable(file, "loc")) for file in files]


def shanghaitech(points: list[list[float]]) -> bytes:
    """The content of ``GT_<picture>.mat``."""
    import numpy as np

    info = np.empty((1, 1), [("location", object), ("number", object)])
    info[0, 0] = (np.array(points, float).reshape(-1, 2), np.array([[len(points)]]))
    cell = np.empty((1, 1), object)
    cell[0, 0] = info
    return _saved({"image_info": cell})


def ucf_qnrf(points: list[list[float]]) -> bytes:
    """The content of ``<picture>_ann.mat``."""
    import numpy as np

    return _saved({"annPoints": np.array(points, float).reshape(-1, 2)})


def beijing_brt(points: list[list[float]]) -> bytes:
    """The content of ``<picture>.mat``."""
    import numpy as np

    return _saved({"loc": np.array(points, float).reshape(-1, 2)})


def _entry(file: Path, name: str, rows: Any) -> Entry:
    return Entry((name,), as_points(rows, str(file)), str(file))


def _location(file: Path) -> Any:
    try:
        return _load(file)["image_info"][0, 0][0, 0]["location"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{file} does not have ShanghaiTech's layout, image_info{{1,1}}.location: {error!r}"
        ) from error


def _variable(file: Path, name: str) -> Any:
    variables = _load(file)
    if name not in variables:
        raise ConfigError(f"{file} has no variable {name}; it has {', '.join(k for k in variables if k[:2] != '__')}")
    return variables[name]


def _load(file: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        return loadmat(file)
    except NotImplementedError as error:
        raise ConfigError(f"{file} is of MATLAB 7.3, which SciPy does not read; save it with -v7") from error
    except Exception as error:
        # Damaged files make the parser raise nearly anything.
        raise ConfigError(f"{file} is no MATLAB file that can be read: {error!r}") from error


def _saved(variables: dict[str, Any]) -> bytes:
    from scipy.io import savemat

    file = io.BytesIO()
    savemat(file, variables)
    return file.getvalue()
