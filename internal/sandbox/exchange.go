package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 8 << 20

// An answer is what a request is to be answered.
type answer struct {
	status int
	header http.Header
	body   []byte
	// message describes what body is the JSON of; nil if no message of C1's.
	message protoreflect.MessageDescriptor
	// acted says that the request has changed something.
	acted bool
}

// An exchange is one request on its way to an answer. It belongs to the
// goroutine that serves the request.
type exchange struct {
	sandbox *Sandbox
	w       http.ResponseWriter
	r       *http.Request
	path    string // raw, without the query
	found   match
	entry   *Request // guarded by the record
	fault   Fault
	body    []byte
}

// procedure names what is called; it is empty for a path that nothing serves.
func (x *exchange) procedure() string {
	if x.path == TokenPath {
		return TokenEndpoint
	}
	if x.found.route == nil {
		return ""
	}
	return x.found.route.procedure
}

// serve reads, carries out and answers, each as the fault allows. It panics
// with http.ErrAbortHandler where there is to be no answer.
func (x *exchange) serve() {
	if x.fault.unread {
		x.fault.send(x, answer{})
		return
	}
	var failed error
	x.body, failed = io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, maxBody))
	x.update(func(q *Request) { q.keep(x.body) })
	a := answer{status: http.StatusInternalServerError, header: http.Header{}}
	switch {
	case failed != nil:
		a = refuse(bodyRefusal(failed))
	case x.fault.act:
		a = x.carryOut()
	}
	if x.fault.change != nil {
		x.fault.change(x, &a)
	}
	accepted := failed == nil && (x.fault.mute || a.status != http.StatusUnauthorized)
	x.sandbox.record.decide(x.entry, accepted, a.acted)
	if x.fault.wait != nil && !x.fault.wait(x.r.Context()) {
		panic(http.ErrAbortHandler) // to return would answer 200
	}
	if x.fault.send != nil {
		x.fault.send(x, a)
		return
	}
	x.write(a, a.body)
}

// bodyRefusal says why a body could not be read to its end.
func bodyRefusal(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return &refusal{code: code.Code_INVALID_ARGUMENT, status: http.StatusRequestEntityTooLarge, message: "body is over 8 MiB"}
	}
	return refused(code.Code_INVALID_ARGUMENT, "read body: %v", err)
}

// carryOut does what C1 would do, and is where requests act. Who calls is
// asked before what is called, so that a stranger learns nothing of the paths.
func (x *exchange) carryOut() answer {
	if x.path == TokenPath {
		return x.sandbox.nonces.stamp(x.sandbox.exchangeToken(x.r, x.path, x.body), atTokens)
	}
	if challenge, err := x.sandbox.authorize(x.r, x.path); err != nil {
		a := refuse(err)
		a.header.Set("WWW-Authenticate", challenge)
		return x.sandbox.nonces.stamp(a, atAPI)
	}
	return x.sandbox.nonces.stamp(x.call(), atAPI)
}

// call carries out a call whose caller is known.
func (x *exchange) call() answer {
	if x.found.route == nil {
		return x.found.refuse(x.r.Method, x.path)
	}
	request, err := decode(x.sandbox.types, x.found, x.r, x.body)
	if err != nil {
		return refuse(err)
	}
	response, err := x.sandbox.call(x.found.route, request)
	if err != nil {
		return refuse(err)
	}
	return x.sandbox.encode(x.found.route, response)
}

// call runs the method that has state, or else makes an answer of the right shape.
func (s *Sandbox) call(route *route, request proto.Message) (proto.Message, error) {
	if method, ok := s.methods[route.procedure]; ok && !s.config.Stateless {
		return s.world.answer(method, request, route.method.Output().FullName())
	}
	return newShape(s.types, route.method.Output(), request, int(s.turn.Load())), nil
}

// encode writes the answer of a method.
func (s *Sandbox) encode(route *route, response proto.Message) answer {
	text, err := protojson.MarshalOptions{Resolver: unheardTypes{s.types}}.Marshal(response)
	if err != nil {
		return refuse(refused(code.Code_INTERNAL, "write answer: %v", err))
	}
	a := jsonAnswer(http.StatusOK, json.RawMessage(text))
	a.message = response.ProtoReflect().Descriptor()
	a.acted = !route.reads
	return a
}

// jsonAnswer writes value without needless space: protojson adds some at random.
func jsonAnswer(status int, value any) answer {
	text, err := json.Marshal(value)
	if err != nil {
		text = []byte("null")
	}
	return answer{status: status, header: http.Header{"Content-Type": {"application/json"}}, body: text}
}

// write sends a, its headers and then body, which may be less than a's own;
// the length that is declared is always that of a's own body.
func (x *exchange) write(a answer, body []byte) {
	x.start(a, strconv.Itoa(len(a.body)))
	_, _ = x.w.Write(body) // a client that has gone is no fault of ours
}

// start sends the headers of a. An empty length leaves the framing to net/http.
func (x *exchange) start(a answer, length string) {
	header := x.w.Header()
	maps.Copy(header, a.header)
	header.Set("Date", x.sandbox.now().UTC().Format(http.TimeFormat))
	if length != "" {
		header.Set("Content-Length", length)
	}
	x.update(func(q *Request) { q.Status = a.status })
	x.w.WriteHeader(a.status)
}

// flush puts on the wire what has been written so far.
func (x *exchange) flush() { _ = http.NewResponseController(x.w).Flush() }

// update changes the exchange's entry in the record.
func (x *exchange) update(change func(*Request)) { x.sandbox.record.update(x.entry, change) }

// close logs the exchange, also when a fault ends it by a panic.
func (x *exchange) close() {
	seen := x.sandbox.record.read(x.entry)
	x.sandbox.config.Log.Info("request", "method", seen.Method, "path", x.path, "procedure", seen.Procedure,
		"status", seen.Status, "acted", seen.Acted, "fault", seen.Fault)
}

// rawPath is the path of r as it came: not decoded, not cleaned.
func rawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(path, "/") { // the absolute form, "*", or a request made by hand
		return r.URL.EscapedPath()
	}
	return path
}
