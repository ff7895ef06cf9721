"""Frames of polars as inputs and outputs, by their place; loaded when a class of polars is met."""

from millstream._io_codecs import NativeFrameCodec
from millstream._io_frame_formats import kind_named
from millstream._types_polars import FrameCodec, LazyCodec
from millstream._values_codecs import register

register(NativeFrameCodec(FrameCodec(), kind_named("polars")))
register(NativeFrameCodec(LazyCodec(), kind_named("polars_lazy")))
