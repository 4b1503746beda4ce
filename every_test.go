package c1proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/catalog"
)

// operations is every method of the mirror, in the order of their names.
func operations(t testing.TB) []protoreflect.MethodDescriptor {
	t.Helper()
	var all []protoreflect.MethodDescriptor
	catalog.Files().RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				all = append(all, methods.Get(j))
			}
		}
		return true
	})
	slices.SortFunc(all, func(a, b protoreflect.MethodDescriptor) int {
		return strings.Compare(string(a.FullName()), string(b.FullName()))
	})
	return all
}

// An operation is a method with a request, and what C1 must see of it. All of
// it is made here from the descriptors, and nothing by the gateway's own code.
type operation struct {
	method  protoreflect.MethodDescriptor
	request *dynamicpb.Message
	verb    string
	// uri and body are what must arrive at C1; body is compact JSON.
	uri, body string
	reads     bool
}

func (o operation) procedure() string {
	return string(o.method.Parent().FullName()) + "/" + string(o.method.Name())
}

var variable = regexp.MustCompile(`\{(\w+)\}`)

// operationOf fills a request: every field, three messages deep, of a oneof the
// turn-th member.
func operationOf(t testing.TB, method protoreflect.MethodDescriptor, turn int) operation {
	t.Helper()
	rule := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	o := operation{method: method, request: dynamicpb.NewMessage(method.Input())}
	fill(o.request, turn, 3)
	var path string
	pattern := rule.ProtoReflect().WhichOneof(rule.ProtoReflect().Descriptor().Oneofs().ByName("pattern"))
	o.verb, path = strings.ToUpper(string(pattern.Name())), rule.ProtoReflect().Get(pattern).String()
	rest := proto.Clone(o.request).ProtoReflect()
	o.uri = variable.ReplaceAllStringFunc(path, func(name string) string {
		field := method.Input().Fields().ByName(protoreflect.Name(name[1 : len(name)-1]))
		text := rest.Get(field).String()
		rest.Clear(field)
		return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
	})
	if rule.GetBody() == "*" {
		text, err := protojson.MarshalOptions{Resolver: catalog.Types{}}.Marshal(rest.Interface())
		if err != nil {
			t.Fatalf("%s: %v", method.FullName(), err)
		}
		o.body = compact(t, text)
	} else if query := queryOf(rest); query != "" {
		o.uri += "?" + query
	}
	options, _ := method.Options().(*descriptorpb.MethodOptions)
	o.reads = options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
	return o
}

func compact(t testing.TB, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func queryOf(rest protoreflect.Message) string {
	values := make(url.Values)
	rest.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		text := value.String()
		if field.Enum() != nil {
			text = string(field.Enum().Values().ByNumber(value.Enum()).Name())
		}
		values.Set(string(field.Name()), text)
		return true
	})
	return values.Encode()
}

// fill sets every field: two elements of a list, one of a map, and messages
// depth deep.
func fill(m protoreflect.Message, turn, depth int) {
	if fillKnown(m) {
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if oneof := field.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() && oneof.Fields().Get(turn%oneof.Fields().Len()) != field {
			continue
		}
		switch {
		case field.IsMap():
			value := m.NewField(field).Map().NewValue()
			if field.MapValue().Message() != nil {
				if depth == 0 {
					continue
				}
				fill(value.Message(), turn, depth-1)
			} else {
				value = plain(field.MapValue(), 0)
			}
			m.Mutable(field).Map().Set(protoreflect.ValueOfString(`key "of" `+string(field.Name())).MapKey(), value)
		case field.Message() != nil && depth == 0 && field.Message().FullName().Parent() != "google.protobuf":
		case field.IsList() && field.Message() != nil:
			for range 2 {
				fill(m.Mutable(field).List().AppendMutable().Message(), turn, depth-1)
			}
		case field.IsList():
			m.Mutable(field).List().Append(plain(field, 0))
			m.Mutable(field).List().Append(plain(field, 1))
		case field.Message() != nil:
			fill(m.Mutable(field).Message(), turn, depth-1)
		default:
			m.Set(field, plain(field, 0))
		}
	}
}

// plain is a value that is no message: none is zero, and none is what a float64
// or a careless encoder would keep.
func plain(field protoreflect.FieldDescriptor, i int) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(max(0, values.Len()-1-i)).Number())
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(-7 - int32(i))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(1<<32 - 1)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(-(1<<53 + 1))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(1<<64 - 1)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(0.25)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(1e-7)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0xff, 0xfe, byte(i)})
	}
	return protoreflect.ValueOfString(fmt.Sprintf("%s %d:&+@", field.Name(), i))
}

// known are the well-known types as C1's API has them, by their JSON.
var known = map[protoreflect.FullName]string{
	"google.protobuf.Any":       `{"@type":"type.googleapis.com/c1.api.app.v1.OAuth2AuthorizedAs","authEmail":"<é>"}`,
	"google.protobuf.Duration":  `"3600.000000001s"`,
	"google.protobuf.FieldMask": `"displayName,a.bC"`,
	"google.protobuf.Struct":    `{"@type":"mine","list":[1,"two",null,{"three":true}]}`,
	"google.protobuf.Timestamp": `"2026-11-24T00:00:00.123456789Z"`,
	"google.protobuf.Value":     `[{"a":null}]`,
}

// fillKnown fills a well-known type, and says whether it is one.
func fillKnown(m protoreflect.Message) bool {
	text, ok := known[m.Descriptor().FullName()]
	if ok {
		if err := (protojson.UnmarshalOptions{Resolver: catalog.Types{}}).Unmarshal([]byte(text), m.Interface()); err != nil {
			panic(err)
		}
	}
	return ok
}

// A door is a way to call any operation without code of its own.
type door struct {
	name, record string
	// call returns the answer, as JSON on C1's own paths, and its headers.
	call func(*everyGateway, operation) (proto.Message, http.Header, error)
	// only restricts the door to what it can do; nil for everything.
	only func(operation) bool
}

// doors are those of protocols, with C1's own paths by plain HTTP, and Connect's
// GET.
func doors() []door {
	var all []door
	for _, p := range protocols[:len(protocols)-1] {
		all = append(all, door{p.name, p.door, func(g *everyGateway, o operation) (proto.Message, http.Header, error) {
			return g.rpc(o, p.options...)
		}, nil})
	}
	reads := func(o operation) bool { return o.reads }
	return append(all, door{"Connect GET", "connect", func(g *everyGateway, o operation) (proto.Message, http.Header, error) {
		return g.rpc(o, connect.WithHTTPGet())
	}, reads}, door{"REST", "rest", (*everyGateway).rest, nil})
}

// An everyGateway is a gateway with the clients of one caller, who shows a
// bearer, unless it is "", and states a reason, unless that is.
type everyGateway struct {
	*gateway
	bearer, reason        string
	rpcClient, restClient *http.Client
}

// every returns clients that show a bearer, or the certificate in config. They
// speak HTTP/2, and on C1's own paths HTTP/1.1.
func (g *gateway) every(bearer string, config *tls.Config) *everyGateway {
	e := &everyGateway{gateway: g, bearer: bearer, rpcClient: g.httpClient(false), restClient: g.httpClient(true)}
	if config != nil {
		for _, client := range []*http.Client{e.rpcClient, e.restClient} {
			client.Transport.(*http.Transport).TLSClientConfig = config.Clone()
		}
	}
	return e
}

// mirrorJSON is Connect's JSON codec for types that are not linked.
type mirrorJSON struct{}

func (mirrorJSON) Name() string { return "json" }
func (mirrorJSON) Marshal(m any) ([]byte, error) {
	return protojson.MarshalOptions{Resolver: catalog.Types{}}.Marshal(m.(proto.Message))
}
func (mirrorJSON) Unmarshal(data []byte, m any) error {
	return protojson.UnmarshalOptions{Resolver: catalog.Types{}}.Unmarshal(data, m.(proto.Message))
}

func (g *everyGateway) rpc(o operation, options ...connect.ClientOption) (proto.Message, http.Header, error) {
	output := dynamicpb.NewMessage(o.method.Output())
	options = append(slices.Clone(options), connect.WithSchema(o.method), connect.WithInterceptors(bearer(g.bearer), stating(g.reason)),
		connect.WithResponseInitializer(func(_ connect.Spec, message any) error {
			*message.(*dynamicpb.Message) = *output
			return nil
		}))
	if o.reads {
		options = append(options, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
	}
	for _, option := range options {
		if option == protocols[0].options[0] { // JSON, with our resolver
			options = append(options, connect.WithCodec(mirrorJSON{}))
			break
		}
	}
	client := connect.NewClient[dynamicpb.Message, dynamicpb.Message](g.rpcClient, g.url+"/"+o.procedure(), options...)
	response, err := client.CallUnary(context.Background(), connect.NewRequest(o.request))
	if err != nil {
		return nil, nil, err
	}
	return response.Msg, response.Header(), nil
}

func (g *everyGateway) rest(o operation) (proto.Message, http.Header, error) {
	r, err := http.NewRequestWithContext(g.t.Context(), o.verb, g.url+o.uri, strings.NewReader(o.body))
	if err != nil {
		return nil, nil, err
	}
	if o.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if g.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+g.bearer)
	}
	if g.reason != "" {
		r.Header.Set("C1proxy-Reason", url.PathEscape(g.reason))
	}
	response, err := g.restClient.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, refusal(response, text)
	}
	output := dynamicpb.NewMessage(o.method.Output())
	return output, response.Header, protojson.UnmarshalOptions{Resolver: catalog.Types{}}.Unmarshal(text, output)
}

// refusal is an answer of C1's own paths as connect's clients have it.
func refusal(response *http.Response, text []byte) error {
	var said status.Status
	if err := protojson.Unmarshal(text, &said); err != nil {
		return fmt.Errorf("HTTP %d: %w: %s", response.StatusCode, err, text)
	}
	refused := connect.NewError(connect.Code(said.GetCode()), errors.New(said.GetMessage()))
	for _, packed := range said.GetDetails() {
		message, err := packed.UnmarshalNew()
		if err != nil {
			return err
		}
		detail, err := connect.NewErrorDetail(message)
		if err != nil {
			return err
		}
		refused.AddDetail(detail)
	}
	maps.Copy(refused.Meta(), response.Header)
	return refused
}

// Every operation, on every door, with every field set: C1 sees exactly the
// verb, path, query and body; the answer is the same on each door; and each
// call has been authenticated, allowed, charged and recorded once.
func TestEveryOperation(t *testing.T) {
	const burst = 8_000
	g := start(t, func(s *setup) {
		s.c1.Stateless, s.c1.Remember = true, 2
		s.yaml = func(text string) string {
			return strings.Replace(text, `      - methods: ["c1.api.app.v1.ConnectorService/*"]`, fmt.Sprintf(`      - {methods: ["c1.**/*"], include_draft: true}
    limits:
      caller: {rate: 1, per: 3600s, burst: %d}`, burst), 1)
		}
	})
	e := g.every(g.keys["sync-bot"], nil)
	calls := 0
	all := operations(t)
	called := make(map[string]string)
	for i, method := range all {
		o := operationOf(t, method, i)
		var first proto.Message
		for _, d := range doors() {
			if d.only != nil && !d.only(o) {
				continue
			}
			answer, header, err := d.call(e, o)
			if err != nil {
				t.Fatalf("%s on %s: %v", o.procedure(), d.name, err)
			}
			calls++
			checkSeen(t, g, o, d, calls)
			if left := remaining(t, header); left != burst-calls {
				t.Errorf("%s on %s: %d left of the limit after %d calls of %d", o.procedure(), d.name, left, calls, burst)
			}
			if first == nil {
				first = answer
				if proto.Size(answer) == 0 && method.Output().Fields().Len() > 0 {
					t.Errorf("%s: the answer is empty", o.procedure())
				}
			} else if !proto.Equal(first, answer) {
				t.Errorf("%s on %s: the answer differs:\n%s", o.procedure(), d.name, cmp.Diff(first, answer, protocmp.Transform()))
			}
			called[header.Get("X-Request-Id")] = d.record + " " + o.procedure()
		}
	}
	checkAllRecords(t, g, called)
	services := make(map[protoreflect.FullName]bool)
	for _, method := range all {
		services[method.Parent().FullName()] = true
	}
	t.Logf("%d operations of %d services, %d calls on %d doors, %d records", len(all), len(services), calls, len(doors()), 2*calls)
	if len(all) != 638 || len(services) != 133 {
		t.Errorf("%d operations of %d services; want 638 of 133: if the mirror has grown, change this", len(all), len(services))
	}
}

// checkSeen compares what C1 saw of the last call.
func checkSeen(t *testing.T, g *gateway, o operation, d door, calls int) {
	t.Helper()
	requests := g.c1.Requests()
	if g.c1.Hits() != calls {
		t.Fatalf("%s on %s: C1 saw %d requests, want %d", o.procedure(), d.name, g.c1.Hits(), calls)
	}
	seen := requests[len(requests)-1]
	body := string(seen.Body)
	if d.record != "rest" && body != "" {
		body = compact(t, seen.Body)
	}
	if seen.Method != o.verb || seen.URI != o.uri || sorted(t, body) != sorted(t, o.body) || seen.Procedure != o.procedure() || d.record == "rest" && body != o.body {
		t.Errorf("%s on %s: C1 saw\n%s %s\n%s\nwant\n%s %s\n%s", o.procedure(), d.name, seen.Method, seen.URI, body, o.verb, o.uri, o.body)
	}
	if want := "*/*"; seen.Header.Get("Accept") == want || seen.Header.Get("Authorization") == "" {
		t.Errorf("%s on %s: headers %v", o.procedure(), d.name, seen.Header)
	}
}

// sorted is JSON with the keys of its objects in order, since those of a Struct
// or a map have none; numbers stay as they are written.
func sorted(t *testing.T, text string) string {
	t.Helper()
	if text == "" {
		return ""
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	out, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

var rateLimit = regexp.MustCompile(`"caller";r=(\d+)`)

// remaining is what the RateLimit header says is left of the caller's limit.
func remaining(t *testing.T, header http.Header) int {
	t.Helper()
	found := rateLimit.FindStringSubmatch(header.Get("RateLimit"))
	if found == nil {
		t.Fatalf("no RateLimit for the caller: %v", header)
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkAllRecords finds, for each call, exactly one intent and one outcome, with
// the caller, the rule and the procedure.
func checkAllRecords(t *testing.T, g *gateway, called map[string]string) {
	t.Helper()
	kinds := make(map[string][]audit.Kind)
	err := audit.Query(t.Context(), g.dir, audit.Filter{}, func(r audit.Record) error {
		if r.RequestID == "" {
			return nil
		}
		kinds[r.RequestID] = append(kinds[r.RequestID], r.Kind)
		if got := r.Door + " " + r.Procedure; got != called[r.RequestID] || r.Caller != "sync-bot" || r.Rule != "payments/allow/0" {
			t.Errorf("record %+v is not of a call %q", r, called[r.RequestID])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, call := range called {
		if !slices.Equal(kinds[id], []audit.Kind{audit.KindIntent, audit.KindOutcome}) {
			t.Errorf("%s has the records %v", call, kinds[id])
		}
	}
	if len(kinds) != len(called) {
		t.Errorf("%d calls are on record, %d were made", len(kinds), len(called))
	}
}
