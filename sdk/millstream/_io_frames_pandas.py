"""Frames of pandas as inputs and outputs, by their place; loaded when a class of pandas is met."""

from millstream._io_codecs import NativeFrameCodec
from millstream._io_frame_formats import kind_named
from millstream._types_pandas import FrameCodec
from millstream._values_codecs import register

register(NativeFrameCodec(FrameCodec(), kind_named("pandas")))
