package proxy

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/c1proxy/c1proxy/internal/transcode"
)

// This file is all that is known of connect-go's handlers: one generic
// handler, made in a loop over the routes, whose messages stay bytes.

// wire is a message as it came, or as it goes, with the codec's name.
type wire struct {
	codec transcode.Codec
	data  []byte
}

// rawCodec passes bytes through, so that decoding and encoding happen in
// binding.serveRPC, where they belong in the order of a call. connect also has it
// write the google.rpc.Status of a gRPC error, which is a message.
type rawCodec struct {
	name  string
	codec transcode.Codec
}

// Name is the codec's name in content types.
func (r rawCodec) Name() string { return r.name }

// Unmarshal copies the bytes: connect uses its buffer again.
func (r rawCodec) Unmarshal(data []byte, message any) error {
	w, ok := message.(*wire)
	if !ok {
		return fmt.Errorf("unmarshal %T: not a wire message", message)
	}
	w.codec, w.data = r.codec, append([]byte(nil), data...)
	return nil
}

// Marshal returns a copy: connect takes the slice for its own.
func (r rawCodec) Marshal(message any) ([]byte, error) { return r.MarshalAppend(nil, message) }

// MarshalAppend appends the message's bytes.
func (r rawCodec) MarshalAppend(to []byte, message any) ([]byte, error) {
	switch m := message.(type) {
	case *wire:
		return append(to, m.data...), nil
	case proto.Message:
		return proto.MarshalOptions{}.MarshalAppend(to, m)
	}
	return nil, fmt.Errorf("marshal %T: not a wire message", message)
}

// handlerOptions are the options of every handler and of its ErrorWriter,
// which must be the same.
func handlerOptions(maxMessage int) []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithCodec(rawCodec{"proto", transcode.Binary}),
		connect.WithCodec(rawCodec{"json", transcode.JSON}),
		connect.WithCodec(rawCodec{"json; charset=utf-8", transcode.JSON}),
		connect.WithReadMaxBytes(maxMessage),
		connect.WithCompressMinBytes(minCompress),
		connect.WithCompression("gzip",
			func() connect.Decompressor { return &inflater{most: int64(maxMessage)} },
			func() connect.Compressor { return gzip.NewWriter(io.Discard) }),
	}
}

// An inflater is a gzip.Reader that ends soon after the largest message.
// connect's own limit on messages bounds memory, but inflates a bomb to its end.
type inflater struct {
	gzip.Reader
	most, left int64
}

var errInflated = errors.New("inflate message: it is larger than a message may be")

// Reset begins a message. One byte too many has connect see what is wrong.
func (f *inflater) Reset(from io.Reader) error {
	f.left = f.most + 1
	return f.Reader.Reset(from)
}

// Read fails with errInflated beyond the largest message.
func (f *inflater) Read(p []byte) (int, error) {
	if f.left <= 0 {
		return 0, errInflated
	}
	n, err := f.Reader.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}

// newHandler makes the handler of one procedure. A method without side
// effects, and only such a one, also answers Connect's GET.
func newHandler(b *binding, options []connect.HandlerOption) http.Handler {
	if b.stream {
		options = append(options[:len(options):len(options)], connect.WithInterceptors(streamCode{}))
		return b.lasting(connect.NewServerStreamHandler(b.route.Procedure, b.serveStream, options...))
	}
	if b.route.ReadOnly {
		options = append(options[:len(options):len(options)], connect.WithIdempotency(connect.IdempotencyNoSideEffects))
	}
	handler := connect.NewUnaryHandler(b.route.Procedure, b.serveRPC, options...)
	if b.local.grant == auditorGrant {
		return b.asking(handler)
	}
	return handler
}

// asConnect returns err's *connect.Error, or nil.
func asConnect(err error) *connect.Error {
	var out *connect.Error
	if errors.As(err, &out) {
		return out
	}
	return nil
}
