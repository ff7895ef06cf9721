"""`DataFrame`, where Flyte programs import it from."""

from millstream._io_frame import DataFrame
from millstream._io_frame_formats import PARQUET

__all__ = ["PARQUET", "DataFrame"]
