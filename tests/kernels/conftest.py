"""Triton as an interpreter, in this process: what of it is written in itself is so from when it is first imported."""

import os

os.environ["TRITON_INTERPRET"] = "1"

import triton.language  # noqa: F401

del os.environ["TRITON_INTERPRET"]  # tests that run kernels set it
