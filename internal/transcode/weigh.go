package transcode

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxValues bounds the elements, members, fields and entries of a caller's
// request, all together. Two bytes of a message can become half a kilobyte of
// memory: a bound on bytes alone bounds nothing.
const maxValues = 100_000

const errCrowded = "it holds more than 100000 values"

// weigh takes the values of a message in binary off left, and stops below 0.
// What is no message is left to Unmarshal to find.
func weigh(data []byte, d protoreflect.MessageDescriptor, left, depth int) int {
	if depth > maxMessages {
		return left // Unmarshal refuses it
	}
	for len(data) > 0 && left >= 0 {
		number, wire, n := protowire.ConsumeTag(data)
		if n < 0 {
			return left
		}
		data = data[n:]
		size := protowire.ConsumeFieldValue(number, wire, data)
		if size < 0 {
			return left
		}
		left--
		if field := d.Fields().ByNumber(number); field != nil && wire == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(data)
			switch {
			case field.Message() != nil:
				left = weigh(value, field.Message(), left, depth+1)
			case field.IsList():
				left -= packed(value, field.Kind())
			}
		}
		data = data[size:]
	}
	return left
}

// packed counts the elements of a packed list.
func packed(value []byte, kind protoreflect.Kind) (n int) {
	switch kind {
	case protoreflect.StringKind, protoreflect.BytesKind:
		return 0
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return len(value) / 8
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return len(value) / 4
	}
	for _, b := range value {
		if b < 0x80 {
			n++ // the last byte of a varint
		}
	}
	return n
}
