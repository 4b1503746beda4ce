package proxy

import (
	"context"
	"maps"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// serveRPC is the door of Connect, gRPC and gRPC-Web: it decodes a message, has
// it travel, and encodes the answer.
func (b *binding) serveRPC(ctx context.Context, request *connect.Request[wire]) (*connect.Response[wire], error) {
	c := callFrom(ctx)
	codec := request.Msg.codec
	message, strays, err := transcode.Decode(codec, request.Msg.data, b.route.Input)
	if err != nil {
		return nil, b.deny(ctx, c, err).Connect()
	}
	c.strays = strays

	a := b.travel(ctx, c, inbound{message: message, request: request})

	encoded := wire{codec: codec}
	if a.fault == nil && a.err == nil {
		encoded.data, err = transcode.Encode(codec, a.message)
		a.fault = fault.Of(err)
	}
	if a.fault != nil {
		c.fault = a.fault
		return nil, a.fault.Connect()
	}
	if a.err != nil {
		return nil, a.err
	}
	response := connect.NewResponse(&encoded)
	maps.Copy(response.Header(), a.header)
	maps.Copy(response.Trailer(), a.trailer)
	return response, nil
}
