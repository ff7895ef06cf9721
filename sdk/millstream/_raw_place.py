"""Where the raw data of runs lies; apart, because an agent starts with little else."""

from typing import Final

#: Folder, or prefix of a store, for the raw data of all runs: a setting of agents and clients.
RAW_DATA_VARIABLE: Final = "MILLSTREAM_RAW_DATA_PATH"
#: Part of a data directory (or of the temporary directory) that takes raw data.
RAW_DIR: Final = "raw"
