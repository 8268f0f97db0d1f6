#!/usr/bin/env python3
"""Write a disk image in Apple's UDIF container: udif.py VOLUME OUT.dmg

A UDIF file is the image's compressed chunks, a property list that describes them, and a 512-byte trailer ("koly").
Reading one back is verify.py's part, which shares nothing but the two structures below.
"""

import dataclasses
import hashlib
import pathlib
import plistlib
import struct
import sys
import zlib

SECTOR = 512
# As many sectors as Apple's own tools put into a chunk.
CHUNK_SECTORS = 512
CHUNK_RAW, CHUNK_ZLIB, CHUNK_END = 0x1, 0x80000005, 0xFFFFFFFF
CRC32 = struct.pack(">II", 2, 32)

# signature, version, sectors, data offset, buffer sectors, checksum, chunks; then 40 bytes for each chunk
TABLE = struct.Struct(">4sIQQQII24x136sI")
TABLE_CHUNK = struct.Struct(">IIQQQQ")
TRAILER = struct.Struct(">4sIII QQQ QQ II 16s 136s QQ 64x QQ 40x 136s IQ 12x")


@dataclasses.dataclass(frozen=True)
class Trailer:
    """The fields of the trailer that vary."""

    data_bytes: int
    data_checksum: bytes
    main_checksum: bytes
    plist_offset: int
    plist_bytes: int
    signature_offset: int
    signature_bytes: int
    segment_id: bytes
    sectors: int

    def pack(self) -> bytes:
        return TRAILER.pack(
            *(b"koly", 4, SECTOR, 1),
            *(0, 0, self.data_bytes),
            *(0, 0),
            *(1, 1),
            self.segment_id,
            self.data_checksum,
            *(self.plist_offset, self.plist_bytes),
            *(self.signature_offset, self.signature_bytes),
            self.main_checksum,
            *(1, self.sectors),
        )

    @staticmethod
    def unpack(trailer: bytes) -> "Trailer":
        fields = TRAILER.unpack(trailer)
        if fields[:4] != (b"koly", 4, SECTOR, 1):
            raise ValueError("the file does not end in a UDIF trailer")
        (data_bytes, segment_id, data_checksum) = (fields[6], fields[11], fields[12])
        (plist_offset, plist_bytes, signature_offset, signature_bytes, main_checksum, _, sectors) = fields[13:]
        return Trailer(
            data_bytes,
            data_checksum,
            main_checksum,
            plist_offset,
            plist_bytes,
            signature_offset,
            signature_bytes,
            segment_id,
            sectors,
        )


def checksum(crc: int) -> bytes:
    return CRC32 + struct.pack(">I", crc) + bytes(124)


def write(volume: bytes, out: pathlib.Path) -> None:
    """One partition that is the whole disk, without a partition map: what hdiutil makes of a bare volume."""
    volume += bytes(-len(volume) % SECTOR)
    sectors = len(volume) // SECTOR
    data, chunks = bytearray(), []
    for first in range(0, sectors, CHUNK_SECTORS):
        plain = volume[first * SECTOR : (first + CHUNK_SECTORS) * SECTOR]
        packed = zlib.compress(plain, 9)
        kind, packed = (CHUNK_ZLIB, packed) if len(packed) < len(plain) else (CHUNK_RAW, plain)
        chunks.append(TABLE_CHUNK.pack(kind, 0, first, len(plain) // SECTOR, len(data), len(packed)))
        data += packed
    chunks.append(TABLE_CHUNK.pack(CHUNK_END, 0, sectors, 0, len(data), 0))

    crc = zlib.crc32(volume)
    table = TABLE.pack(b"mish", 1, 0, sectors, 0, CHUNK_SECTORS + 8, 0, checksum(crc), len(chunks)) + b"".join(chunks)
    name = "whole disk (Apple_HFS : 0)"
    partition = {"Attributes": "0x0050", "CFName": name, "Data": table, "ID": "0", "Name": name}
    plist = plistlib.dumps({"resource-fork": {"blkx": [partition]}})
    trailer = Trailer(
        data_bytes=len(data),
        data_checksum=checksum(zlib.crc32(data)),
        main_checksum=checksum(zlib.crc32(struct.pack(">I", crc))),
        plist_offset=len(data),
        plist_bytes=len(plist),
        signature_offset=0,
        signature_bytes=0,
        # Its only use is to tell segments of different images apart; from the content, so that equal input gives
        # equal output.
        segment_id=hashlib.sha256(volume).digest()[:16],
        sectors=sectors,
    )
    out.write_bytes(data + plist + trailer.pack())


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]).read_bytes(), pathlib.Path(sys.argv[2]))
