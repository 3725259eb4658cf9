"""Images as the router passes them on: serialized once, whoever gets them."""

from dataclasses import dataclass

from lensmesh.common.v1 import common_pb2

_CONTENT_TAG = bytes([common_pb2.Image.DESCRIPTOR.fields_by_name["content"].number << 3 | 2])
# What a message takes beside an image: the tag and the length.
_FRAME_BYTES = 8


@dataclass(frozen=True, slots=True)
class PackedImage:
    """An Image, serialized.

    protobuf copies an image's bytes each time that they are looked at, measured (`ByteSize` serializes) or put into a
    request. Here they are copied once for all of that, and once for each call that carries them.
    """

    packed: bytes

    @classmethod
    def of(cls, image: common_pb2.Image) -> "PackedImage":
        """Serialize an image of a request."""
        return cls(image.SerializeToString())

    @property
    def size(self) -> int:
        """About how many bytes it takes in a message."""
        return len(self.packed) + _FRAME_BYTES

    @property
    def content(self) -> memoryview:
        """The bytes of the image's file, without a copy; none where it is given by address."""
        length, start = self._length()
        if start + length == len(self.packed):
            return memoryview(self.packed)[start:]
        return memoryview(common_pb2.Image.FromString(self.packed).content)

    def _length(self) -> tuple[int, int]:
        """Return how long `content` is and where it begins; it ends elsewhere than the message where there is more."""
        if not self.packed.startswith(_CONTENT_TAG):
            return 0, 0
        length, shift = 0, 0
        for start, byte in enumerate(self.packed[1:11], 2):
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return length, start
        return 0, 0


NO_IMAGE = PackedImage(b"")
