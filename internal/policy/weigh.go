package policy

import (
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"google.golang.org/protobuf/proto"
)

// bytesPerCost is how many bytes are compared for one unit of cost, as CEL has
// it of texts.
const bytesPerCost = 10

// costOfEquals is the cost of comparing two values. CEL takes a message, and what
// a list or a map holds, for 1 however large it is.
func costOfEquals(args []ref.Val, _ ref.Val) *uint64 {
	sum := 1 + weigh(args[0], args[1])/bytesPerCost
	return &sum
}

// costOfIn is the cost of looking for a value in a list.
func costOfIn(args []ref.Val, _ ref.Val) *uint64 {
	var sum uint64 = 1
	if list, ok := args[1].(traits.Lister); ok {
		for it := list.Iterator(); it.HasNext() == types.True && sum <= maxCost; {
			sum += 1 + weigh(args[0], it.Next())/bytesPerCost
		}
	}
	return &sum
}

// weigh is about how many bytes are read to compare two values; what it reads
// itself to tell is in proportion, and it stops beyond what maxCost allows.
func weigh(a, b ref.Val) uint64 {
	switch x := a.(type) {
	case types.String:
		if y, ok := b.(types.String); ok {
			return uint64(min(len(x), len(y)))
		}
		return 1
	case types.Bytes:
		if y, ok := b.(types.Bytes); ok {
			return uint64(min(len(x), len(y)))
		}
		return 1
	case traits.Lister:
		y, ok := b.(traits.Lister)
		if !ok || x.Size() != y.Size() {
			return 1
		}
		var sum uint64 = 1
		for i, j := x.Iterator(), y.Iterator(); i.HasNext() == types.True && sum <= maxCost*bytesPerCost; {
			sum += bytesPerCost + weigh(i.Next(), j.Next())
		}
		return sum
	case traits.Mapper:
		y, ok := b.(traits.Mapper)
		if !ok || x.Size() != y.Size() {
			return 1
		}
		var sum uint64 = 1
		for i := x.Iterator(); i.HasNext() == types.True && sum <= maxCost*bytesPerCost; {
			key := i.Next()
			sum += bytesPerCost + weigh(key, key)
			if other, found := y.Find(key); found {
				sum += weigh(x.Get(key), other)
			}
		}
		return sum
	}
	var sum uint64
	for _, value := range []ref.Val{a, b} {
		if message, ok := value.Value().(proto.Message); ok {
			sum += uint64(proto.Size(message))
		}
	}
	return sum
}
