"""Read what `aftertune judges calibrate` wrote."""

from pathlib import Path

from pydantic import ValidationError

from aftertune.errors import DataError
from aftertune.records.calibration import CALIBRATION_VERSION, Calibration

_AGAIN = "write it with `aftertune judges calibrate LABELS --judge NAME --out FILE`"


def read_calibration(path: Path) -> Calibration:
    """The calibration in a file.

    Raises:
        DataError: it cannot be read, is no calibration, or comes from a newer aftertune.
    """
    try:
        found = Calibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read the calibration {path}: {error.strerror}", _AGAIN) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{path} is no calibration: {f'{where}: ' if where else ''}{first['msg']}", _AGAIN
        ) from error
    if found.schema_version > CALIBRATION_VERSION:
        raise DataError(
            f"{path} has version {found.schema_version}, this aftertune knows {CALIBRATION_VERSION}",
            "upgrade aftertune",
        )
    return found
