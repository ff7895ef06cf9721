"""`Dir`, where Flyte programs import it from."""

from millstream._io_dir import Dir, EmptyDir

__all__ = ["Dir", "EmptyDir"]
