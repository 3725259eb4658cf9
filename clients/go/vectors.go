package lensmesh

import (
	"encoding/binary"
	"math"

	commonv1 "lensmesh/clients/go/gen/common/v1"
)

// Floats returns the numbers of a vector, whatever form it was sent in. The error is an *Error with ReasonVectorInvalid
// where the bytes are not as many as the message says.
func Floats(vector *commonv1.Embedding) ([]float32, error) {
	if len(vector.GetFloats()) > 0 {
		return vector.GetFloats(), nil
	}
	data, count := vector.GetData(), int(vector.GetDimension())
	numbers := make([]float32, 0, min(count, len(data)))
	switch vector.GetDataType() {
	case commonv1.DataType_DATA_TYPE_FLOAT32:
		for ; len(data) >= 4; data = data[4:] {
			numbers = append(numbers, math.Float32frombits(binary.LittleEndian.Uint32(data)))
		}
	case commonv1.DataType_DATA_TYPE_FLOAT16:
		for ; len(data) >= 2; data = data[2:] {
			numbers = append(numbers, ofHalf(binary.LittleEndian.Uint16(data)))
		}
	}
	if len(data) > 0 || len(numbers) != count || count == 0 {
		return nil, invalid(ReasonVectorInvalid, "embedding",
			"the vector of dimension %d and type %s has %d bytes", count, vector.GetDataType(), len(vector.GetData()))
	}
	return numbers, nil
}

// ofHalf returns the number that IEEE 754 binary16 writes so.
func ofHalf(bits uint16) float32 {
	sign, exponent, fraction := uint32(bits>>15)<<31, int(bits>>10&0x1f), uint32(bits&0x3ff)
	switch exponent {
	case 0: // zero, or subnormal: units of 2^-24
		value := float32(math.Ldexp(float64(fraction), -24))
		return math.Float32frombits(math.Float32bits(value) | sign)
	case 0x1f: // infinity or NaN
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | uint32(exponent+127-15)<<23 | fraction<<13)
}
