package proxy

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// This file is about calls that are answered piece by piece.

const (
	// sendTime is how long a caller may take for one message of a stream.
	sendTime = 30 * time.Second
	// endTime is how long it may take for the last one, when c1proxy ends the stream.
	endTime = time.Second
	// provenFor is how long a stream's caller stays proven.
	provenFor = 5 * time.Second
	// longestStream is how long a stream lasts at most. While a call is open, the
	// audit keeps all that was written since it began, for the next start to read.
	longestStream = time.Hour
)

// A stream is an answer that lasts. The server's deadlines, which are for one
// message, do not hold for it.
type stream struct {
	*http.ResponseController
	// caller ends when the caller leaves, and not with the stream.
	caller context.Context
	// code is the one that it has ended with; 0 for none, or if connect has refused it
	// before it began.
	code connect.Code

	mu     sync.Mutex
	ending bool // guarded by mu
}

// allow gives the caller time to take what is sent next.
func (s *stream) allow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		_ = s.SetWriteDeadline(time.Now().Add(sendTime)) // where there is nothing to set, the server's stays
	}
}

// end leaves the caller a moment to take what is under way and why it is the last.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	_ = s.SetWriteDeadline(time.Now().Add(endTime))
}

// lasting lets a handler of c1proxy's own answer for as long as its caller wants.
// If the stream must end before, the handler's context does, with the fault to
// answer as its cause.
func (b *binding) lasting(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := w.(*call)
		c.stream = &stream{ResponseController: http.NewResponseController(w), caller: r.Context()}
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer b.gateway.watch(c, r, func(why *fault.Fault) {
			cancel(why)
			c.stream.end()
		})()
		inner.ServeHTTP(w, r.WithContext(ctx))
	})
}

// bindStream puts a streaming handler of someone else's on the line, as a
// procedure that every authenticated caller may call. A stream waits for its
// caller until it must end: see watch.
func (g *gateway) bindStream(procedure, rule string, inner http.Handler) http.Handler {
	b := &binding{gateway: g, route: &route.Route{Procedure: procedure, ReadOnly: true},
		metrics: g.metrics.Procedure(procedure[1:]), errors: connect.NewErrorWriter(), stream: true, open: rule}
	return line(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The server's deadlines are for one message; without others, a stream
		// would end with them. Where there is nothing to set, they stay.
		controller, end := http.NewResponseController(w), time.Now().Add(streamTimeout)
		_ = errors.Join(controller.SetReadDeadline(end), controller.SetWriteDeadline(end))
		defer g.watch(w.(*call), r, func(*fault.Fault) {
			_ = controller.SetReadDeadline(time.Now()) // the caller is heard no more
		})()
		inner.ServeHTTP(w, r)
	}))
}

// watch calls end, once at most, when a stream must end though its caller is
// there: when the gateway stops, when who may call is decided anew, when the
// caller's credential is good no more, and after an hour. The caller of watch must
// call done before the handler returns.
func (g *gateway) watch(c *call, r *http.Request, end func(why *fault.Fault)) (done func()) {
	shown := r.Clone(r.Context()) // the handler may change r
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		proven, last := time.NewTicker(provenFor), time.NewTimer(longestStream)
		defer proven.Stop()
		defer last.Stop()
		for {
			select {
			case <-ended:
				return
			case <-g.stopping:
				end(streamEnded("c1proxy stops"))
				return
			case <-c.edition.replaced:
				end(streamEnded("c1proxy's configuration was replaced"))
				return
			case <-last.C:
				end(streamEnded("it has lasted an hour"))
				return
			case <-proven.C:
			}
			_, err := c.known().Authenticate(shown)
			// That nobody can be asked who vouches for a token says nothing of it.
			if f := fault.Of(err); f != nil && f.Code != connect.CodeUnavailable && r.Context().Err() == nil {
				end(f)
				return
			}
		}
	})
	return func() {
		close(ended)
		watching.Wait()
	}
}

// streamEnded is the fault of a stream that c1proxy ends. Another one can begin
// where it ended.
func streamEnded(why string) *fault.Fault {
	return fault.New(connect.CodeUnavailable, fault.StreamEnded, "the stream has ended, because %s: begin another one where it ended", why)
}

// streamCode takes note of how a stream has ended, which can stand behind a status of
// 200 where only its caller reads it.
type streamCode struct{}

func (streamCode) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc { return next }

func (streamCode) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (streamCode) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		err := next(ctx, conn)
		if err != nil {
			callFrom(ctx).stream.code = connect.CodeOf(err)
		}
		return err
	}
}

// serveStream is the door of Connect, gRPC and gRPC-Web to what is answered with a
// stream of messages: serveRPC for these.
func (b *binding) serveStream(ctx context.Context, request *connect.Request[wire], out *connect.ServerStream[wire]) error {
	c := callFrom(ctx)
	codec := request.Msg.codec
	message, strays, err := transcode.Decode(codec, request.Msg.data, b.route.Input)
	if err != nil {
		return b.deny(ctx, c, err).Connect()
	}
	c.strays = strays
	_ = c.stream.SetReadDeadline(time.Time{}) // nothing is to come but the caller's leaving
	f := b.flow(ctx, c, message, func(m proto.Message) error {
		data, err := transcode.Encode(codec, m)
		if err != nil {
			return err
		}
		begun := time.Now()
		c.stream.allow()
		if err = out.Send(&wire{codec: codec, data: data}); err == nil {
			return nil
		}
		if time.Since(begun) >= sendTime {
			return fault.New(connect.CodeDeadlineExceeded, fault.DeadlineExceeded, "the caller did not take a message within %v", sendTime).Because(err)
		}
		return errGone
	})
	if f == nil {
		return nil
	}
	c.fault = f
	return f.Connect()
}

// errGone is the error of a message whose caller has left.
var errGone = context.Canceled

// flow is travel for an answer that lasts. The intent is durable before the first
// message goes out, so that a stream is on record while it lasts, and the outcome
// is before its end does.
func (b *binding) flow(ctx context.Context, c *call, message proto.Message, send func(proto.Message) error) (f *fault.Fault) {
	prepared, err := b.destination.prepare(ctx, c, inbound{message: message})
	if err != nil {
		return b.deny(ctx, c, err)
	}
	prepared.drop() // it stays here
	intent := c.record(audit.KindIntent)
	c.recorded = true
	if err := b.gateway.log.Append(ctx, intent); err != nil {
		return auditUnavailable(ctx, err)
	}
	defer func() {
		if value := recover(); value != nil {
			f = b.conclude(c.stream.caller, c, intent, answer{fault: b.gateway.panicked(c), outcome: audit.OutcomeFailed}).fault
		}
	}()
	a := answer{outcome: audit.OutcomeOK}
	if err := b.local.stream(ctx, c, message, send); err != nil {
		a.fault = fault.Of(err)
		switch {
		case a.fault.Reason == fault.DeadlineExceeded && ctx.Err() != context.DeadlineExceeded:
			a.outcome = audit.OutcomeFailed // the caller was too slow, whatever has become of it by now
		case ctx.Err() != nil:
			a.fault = fault.Of(context.Cause(ctx)) // as streams end
		case !errors.Is(err, errGone):
			a.outcome = audit.OutcomeFailed
		}
	}
	return b.conclude(c.stream.caller, c, intent, a).fault
}
