"""`File`, where Flyte programs import it from."""

from millstream._io_file import File

__all__ = ["File"]
