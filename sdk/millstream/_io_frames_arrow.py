"""Tables of pyarrow as inputs and outputs, by place; loaded when a class of pyarrow is met."""

from millstream._io_codecs import NativeFrameCodec
from millstream._io_frame_formats import kind_named
from millstream._types_arrow import TableCodec
from millstream._values_codecs import register

register(NativeFrameCodec(TableCodec(), kind_named("arrow")))
