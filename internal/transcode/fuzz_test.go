package transcode_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// shape walks over JSON with encoding/json alone, and says how deep it is and
// whether a key comes twice in one object.
func shape(data []byte) (depth int, twice bool, err error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var open []map[string]bool // nil for an array
	key := false
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return depth, twice, nil
		}
		if err != nil {
			return depth, twice, err
		}
		inObject := len(open) > 0 && open[len(open)-1] != nil
		if name, ok := token.(string); ok && inObject && key {
			twice = twice || open[len(open)-1][name]
			open[len(open)-1][name] = true
			key = false
			continue
		}
		switch token {
		case json.Delim('{'):
			open, key = append(open, map[string]bool{}), true
		case json.Delim('['):
			open = append(open, nil)
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
			key = true
		default:
			key = true
		}
		depth = max(depth, len(open))
	}
}

// seed adds all that the tables hold.
func seed(f *testing.F) {
	for data := range mistakes {
		if len(data) < 1000 {
			f.Add([]byte(data))
		}
	}
	for object := range objects {
		f.Add([]byte(`{"any":` + object + `}`))
		f.Add([]byte(`{"anys":[` + object + `]}`))
	}
	f.Add([]byte(fullText))
	f.Add([]byte(`{"children":[null],"colors":["x",1],"new":{"a":[1e9]}}`))
}

var lenient = protojson.UnmarshalOptions{DiscardUnknown: true}

// Where this package and protojson both read an answer, they read the same.
// Where only protojson does, there is a reason; where only this package does,
// too. And what was read survives every way through the proxy.
func FuzzAnswer(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		theirs := testType.New().Interface()
		refusal := lenient.Unmarshal(data, theirs)
		ours, strays, err := transcode.Answer(data, testType)
		special := strays.Count(transcode.UnknownType) > 0 || bytes.Contains(data, []byte("c1proxy"))
		switch {
		case err == nil && refusal == nil:
			if !special && !proto.Equal(ours, theirs) {
				t.Fatalf("%q: got %v, protojson has %v", data, ours, theirs)
			}
		case err == nil:
			if !special && strays.Count(transcode.NullElement) == 0 {
				t.Fatalf("%q: read, and protojson says %v", data, refusal)
			}
		case refusal == nil:
			depth, twice, invalid := shape(data)
			huge := strings.Contains(err.Error(), "too large") // in an Any that protojson empties
			if invalid == nil && json.Valid(data) && !twice && depth <= 100 && !huge && !bytes.Contains(data, []byte("c1proxy")) {
				t.Fatalf("%q: protojson reads it: %v", data, err)
			}
			return
		default:
			return
		}
		survives(t, ours)
		if !special && !bytes.Contains(data, []byte("nothing")) { // of NullValue see writer.enum
			encoded, err := transcode.Encode(transcode.JSON, ours)
			if err != nil {
				t.Fatal(err)
			}
			sameJSON(t, "as protojson writes it", encoded, protojsonOf(t, ours))
		}
	})
}

// survives holds a message to coming back from either codec as it was.
func survives(t *testing.T, message proto.Message) {
	encoded, err := transcode.Encode(transcode.JSON, message)
	if err != nil {
		t.Fatalf("%v: %v", message, err)
	}
	again, strays, err := transcode.Answer(encoded, testType)
	if err != nil && strings.Contains(err.Error(), "nests deeper") && bytes.Contains(encoded, []byte(transcode.ObjectURL)) {
		return // deeper by what an Any of no known type is wrapped in
	}
	if err != nil || !proto.Equal(again, message) || strays.Count(transcode.UnknownField)+strays.Count(transcode.UnknownEnum)+strays.Count(transcode.NullElement) > 0 {
		t.Fatalf("%s: came back from JSON as %v, want %v (%v)", encoded, again, message, err)
	}
	for _, codec := range []transcode.Codec{transcode.JSON, transcode.Binary} {
		encoded, err := transcode.Encode(codec, message)
		if err != nil {
			t.Fatalf("%v: %v", message, err)
		}
		request, strays, err := transcode.Decode(codec, encoded, testType)
		if err != nil || !proto.Equal(request, message) || strays.Count(transcode.UnknownField) > 0 {
			t.Fatalf("%s: came back from %s as %v (%v)", message, codec, request, err)
		}
	}
}

// A request that is accepted comes back from binary as it was; and if JSON can
// express it, what C1 reads in that JSON is the same message, so that what was
// decided on the one holds for the other.
func FuzzDecode(f *testing.F) {
	for _, text := range append(slices.Collect(maps.Keys(objects)), `{"any":{"a":1}}`) {
		message, _ := answered(f, `{"any":`+text+`,"anys":[`+text+`]}`)
		f.Add(marshaled(message), false)
	}
	f.Add(marshaled(parsed(f, fullText)), false)
	f.Add([]byte(fullText), true)
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		codec := transcode.Binary
		if isJSON {
			codec = transcode.JSON
		}
		message, _, err := transcode.Decode(codec, data, testType)
		var fault *fault.Fault
		if err != nil {
			if !errors.As(err, &fault) || !refused(err, fault.Metadata["field"]) {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		encoded, err := transcode.Encode(transcode.Binary, message)
		if err != nil {
			t.Fatal(err)
		}
		again, strays, err := transcode.Decode(transcode.Binary, encoded, testType)
		if err != nil || !proto.Equal(message, again) || strays.Count(transcode.UnknownField) > 0 {
			t.Fatalf("%v came back as %v (%v, strays %s)", message, again, err, &strays)
		}
		sent, err := transcode.Encode(transcode.JSON, message)
		if err != nil {
			return // binary says more than JSON can
		}
		read, strays, err := transcode.Decode(transcode.JSON, sent, testType)
		if err != nil && strings.Contains(err.Error(), "nests deeper") {
			return // 100 messages in 100 lists are 200 brackets
		}
		if err != nil {
			t.Fatalf("%v became %s: %v", message, sent, err)
		}
		if url := held(t, message).GetTypeUrl(); held(t, read).GetTypeUrl() != url {
			t.Fatalf("%v became %s, which is a %q", message, sent, held(t, read).GetTypeUrl())
		}
		resent, err := transcode.Encode(transcode.JSON, read)
		if err != nil {
			t.Fatalf("%s: %v", sent, err)
		}
		sameJSON(t, "again", resent, sent)
	})
}

// A body that is accepted reads the same for everybody: no key comes twice, the
// path's field is not in it, and protojson makes the same message of it.
func FuzzBody(f *testing.F) {
	seed(f)
	for data := range mistakes {
		f.Add([]byte(strings.ReplaceAll(data, `"id"`, `"maybeText"`)))
	}
	r := testRoute(f, "Change")
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, strays, err := readBody(r, data)
		if err != nil {
			var f *fault.Fault
			if !errors.As(err, &f) || !refused(err, f.Metadata["field"]) {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		depth, twice, invalid := shape(data)
		if invalid != nil || !json.Valid(data) || twice || depth > 100 {
			t.Fatalf("%q: accepted: depth %d, twice %v, %v", data, depth, twice, invalid)
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(data, &keys); err != nil || keys == nil || keys["id"] != nil {
			t.Fatalf("%q: accepted: keys %v, %v", data, slices.Collect(maps.Keys(keys)), err)
		}
		if strays.Count(transcode.UnknownType) > 0 || bytes.Contains(data, []byte("c1proxy")) {
			return // protojson refuses, or empties, such an Any
		}
		theirs := testType.New().Interface()
		if err := lenient.Unmarshal(data, theirs); err != nil || !proto.Equal(ours, theirs) {
			t.Fatalf("%q: got %v, protojson has %v (%v)", data, ours, theirs, err)
		}
	})
}

// A query that is accepted has the values that net/url finds in it, and the
// request made of its message has the same query.
func FuzzQuery(f *testing.F) {
	for _, raw := range []string{"page_size=5&maybe=", "texts=a&texts=b", "big=-1&huge=2&uint=3&flag=true&real=1.5&half=2&data=AQI%3D", "color=RED&colors=x&colors=7"} {
		f.Add(raw)
	}
	r := testRoute(f, "Look")
	f.Fuzz(func(t *testing.T, raw string) {
		message := r.Input.New().Interface()
		_, err := transcode.Query(r, raw, message)
		if err != nil {
			return
		}
		values, err := url.ParseQuery(raw)
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		for name := range values {
			if field := r.Input.Descriptor().Fields().ByName(protoreflect.Name(name)); field == nil || r.Binds(field) || !field.IsList() && len(values[name]) > 1 {
				t.Fatalf("%q: accepted", raw)
			}
		}
		message.ProtoReflect().Set(r.Input.Descriptor().Fields().ByName("id"), idValue)
		target, err := transcode.Request(r, message)
		again := r.Input.New().Interface()
		again.ProtoReflect().Set(r.Input.Descriptor().Fields().ByName("id"), idValue)
		if _, err2 := transcode.Query(r, target.Query, again); err != nil || err2 != nil || !proto.Equal(again, message) {
			t.Fatalf("%q became %q: %v, %v", raw, target.Query, err, err2)
		}
	})
}
