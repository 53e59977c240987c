"""Arrays in .npy files, read through the page cache without a descriptor each.

Python's own mmap, and with it `np.load(mmap_mode="r")`, keeps a duplicate of the
descriptor for as long as the map lives (an option only from Python 3.13 on): an index
of many shards would run into the process's limit, of 1024 as a rule. The system's call
needs it for the moment of mapping alone. A file that is removed stays readable.
"""

import ctypes
import mmap
import os
import weakref

import numpy as np

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [
    *(ctypes.c_void_p, ctypes.c_size_t),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),
]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED = ctypes.c_void_p(-1).value


def _map(file, size, path):
    """The bytes of a file as a buffer; unmapped when nothing refers to it any more."""
    place = _LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if place == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    buffer = (ctypes.c_char * size).from_address(place)
    weakref.finalize(buffer, _LIBC.munmap, place, size).atexit = False
    return buffer


def load(path):
    """What np.save wrote, read-only and not yet read.

    Args:
      path: of the .npy file.

    Returns:
      array; its pages come from the file when they are used.

    Raises:
      OSError: the file can't be opened or mapped.
      ValueError: no .npy file, or a shorter one than it says.
    """
    form = np.lib.format
    with open(path, "rb") as file:
        version = form.read_magic(file)
        if version == (1, 0):
            shape, by_column, dtype = form.read_array_header_1_0(file)
        else:
            shape, by_column, dtype = form.read_array_header_2_0(file)
        start, size = file.tell(), os.fstat(file.fileno()).st_size
        wanted = start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        if dtype.hasobject or size < wanted:
            raise ValueError(
                f"{os.path.basename(path)} of {dtype} {shape} should have {wanted} "
                f"bytes. Received: {size}"
            )
        buffer = _map(file, size, path)
    order = "F" if by_column else "C"
    array = np.ndarray(shape, dtype, buffer, start, order=order)
    array.flags.writeable = False
    return array
