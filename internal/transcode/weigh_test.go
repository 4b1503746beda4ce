package transcode_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// A request of a few bytes a value is refused by its values: 100,000 of them
// pass, in either codec and at any depth, and one more does not.
func TestCrowds(t *testing.T) {
	const most = 100_000
	nest := func(n int, number protowire.Number, inner []byte) []byte {
		return bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), inner), n)
	}
	list := func(before, one, after string) func(int) []byte {
		return func(n int) []byte { return []byte(before + strings.Repeat(one+",", n-1) + one + after) }
	}
	const users, grant, create = "c1.api.user.v1.SearchUsersRequest", "c1.api.task.v1.TaskServiceCreateGrantRequest", "c1.api.app.v1.ConnectorServiceCreateRequest"
	for _, tt := range []struct {
		name    string
		message protoreflect.FullName
		codec   transcode.Codec
		outer   int // values around the many
		data    func(n int) []byte
	}{
		{"messages", users, transcode.JSON, 1, list(`{"refs":[`, "{}", "]}")},
		{"numbers in a Struct", grant, transcode.JSON, 2, list(`{"requestData":{"a":[`, "0", "]}}")},
		{"binary messages", users, transcode.Binary, 0, func(n int) []byte { return nest(n, 17, nil) }},
		{"packed enums", users, transcode.Binary, 1, func(n int) []byte { return nest(1, 20, make([]byte, n)) }},
		{"binary Any", create, transcode.Binary, 3, func(n int) []byte {
			held := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "type.googleapis.com/"+users)
			return nest(1, 3, append(held, nest(1, 2, nest(n, 17, nil))...))
		}},
	} {
		input, err := catalog.Types{}.FindMessageByName(tt.message)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := transcode.Decode(tt.codec, tt.data(most-tt.outer), input); err != nil {
			t.Errorf("%s: %d values: %v", tt.name, most, err)
		}
		if _, _, err := transcode.Decode(tt.codec, tt.data(most-tt.outer+1), input); err == nil || !strings.Contains(err.Error(), "more than 100000 values") {
			t.Errorf("%s: one more: %v", tt.name, err)
		}
	}
}
