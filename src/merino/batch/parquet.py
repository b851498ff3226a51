"""Rows of a Parquet file, for a template. Needs pyarrow (`merino[parquet]`)."""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportMissingModuleSource=false, reportUnknownArgumentType=false
# pyarrow ships no types.
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from merino.domain.errors import Misconfigured

ROWS_AT_A_TIME = 1024


def rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row's number, from 1, and its values of `columns` and of `custom_id` if there is one.
    Raises `Misconfigured` without pyarrow, for a file that is none, and for columns it lacks."""
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise Misconfigured(
            f'{path}: Parquet needs pyarrow; pip install "merino[parquet]", or give a CSV file'
        ) from None
    try:
        with ParquetFile(path) as file:
            known: list[str] = file.schema_arrow.names
            missing = [name for name in columns if name not in known]
            if missing:
                raise Misconfigured(
                    f"{path} has no column {missing[0]!r}; it has {', '.join(known)}"
                )
            wanted = {*columns, "custom_id"} & {*known}
            number = 0
            # In small batches: a row group may be as large as the file.
            for batch in file.iter_batches(ROWS_AT_A_TIME, columns=sorted(wanted)):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pa.ArrowException as error:
        raise Misconfigured(f"{path} is not Parquet: {str(error).splitlines()[0]}") from None
