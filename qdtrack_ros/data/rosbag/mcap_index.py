"""An index for MCAP files without one, so that their messages come by time, as from other bags, and are found by it.

Works from the published layout of MCAP. What lies in chunks is left to rosbags, which only has to know of the chunks.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
from rosbags.interfaces import Connection
from rosbags.rosbag2.storage_mcap import ChunkInfo, McapReader, read_exact, read_string

_MESSAGE, _CHUNK = 0x05, 0x06
_RECORD_HEADER = struct.Struct("<BQ")  # opcode, length of what follows
_MESSAGE_HEADER = struct.Struct("<HIQQ")  # channel, sequence number, time of recording, time of publishing
_CHUNK_HEADER = struct.Struct("<QQQI")  # first and last time, size, checksum
_SIZE = struct.Struct("<Q")


class LooseMessages:
    """The messages that lie outside chunks, as all do that rosbag2 writes with the profile ``fastwrite``.

    Args:
        storage: an open file; it is told of its chunks, if there are any and it has no index of them.
    """

    def __init__(self, storage: McapReader) -> None:
        assert storage.bio is not None and storage.statistics is not None
        self._storage = storage
        source, found = storage.bio, array("Q")
        source.seek(storage.data_start)
        while source.tell() < storage.data_end:
            opcode, length = _RECORD_HEADER.unpack(read_exact(source, _RECORD_HEADER.size))
            start = source.tell()
            if opcode == _MESSAGE:
                channel, _, stamp_ns, _ = _MESSAGE_HEADER.unpack(read_exact(source, _MESSAGE_HEADER.size))
                found.extend((stamp_ns, channel, source.tell(), length - _MESSAGE_HEADER.size))
            elif opcode == _CHUNK:
                begin, end, size, _ = _CHUNK_HEADER.unpack(read_exact(source, _CHUNK_HEADER.size))
                compression = read_string(source)
                (packed,) = _SIZE.unpack(read_exact(source, _SIZE.size))
                place = start - _RECORD_HEADER.size
                whole = source.tell() + packed - place
                counts = dict(storage.statistics.channel_message_counts)  # of all chunks: it only matters which are 0
                chunk = ChunkInfo(begin, end, place, whole, {}, 0, compression, packed, size, counts)
                storage.chunks.append(chunk)
            source.seek(start + length)
        rows = np.array(found, np.uint64).reshape(-1, 4)
        self._rows: npt.NDArray[np.uint64] = rows[np.argsort(rows[:, 0], kind="stable")]  # stamp, channel, place, size

    def read(
        self, wanted: Collection[Connection], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, time of recording and CDR bytes, by time; see ``BagReader.messages``."""
        connections = {connection.id: connection for connection in wanted}
        first = 0 if start_ns is None else int(np.searchsorted(self._rows[:, 0], start_ns))
        last = len(self._rows) if stop_ns is None else int(np.searchsorted(self._rows[:, 0], stop_ns))
        for place in range(first, last):
            stamp_ns, channel, offset, size = self._rows[place].tolist()
            if channel in connections:
                assert self._storage.bio is not None
                self._storage.bio.seek(offset)
                yield connections[channel], stamp_ns, read_exact(self._storage.bio, size)
