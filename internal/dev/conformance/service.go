package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/c1proxy/c1proxy/internal/dev/conformance/conformancev1"
)

// answer answers Unary and IdempotentUnary as the suite's service.proto says,
// and as its reference server does. It carries out the definition of a
// response, in which the request itself comes back; without a definition that
// is all. Every other procedure is unimplemented.
func answer(ctx context.Context, request connect.AnyRequest, message proto.Message) (response proto.Message, header, trailer http.Header, err error) {
	defined, ok := message.(interface {
		GetResponseDefinition() *conformancev1.UnaryResponseDefinition
	})
	if !ok {
		return nil, nil, nil, connect.NewError(connect.CodeUnimplemented, errors.New("unimplemented, as the suite wants it"))
	}
	info, err := requestInfo(ctx, request, message)
	if err != nil {
		return nil, nil, nil, err
	}
	want := defined.GetResponseDefinition()
	if failure := want.GetError(); failure != nil {
		return nil, nil, nil, asError(failure, info, want)
	}

	// Slept through even when the caller's time is over, as the reference server
	// does: an answer in the very millisecond of the deadline races with the
	// deadline of the suite's client, which then reports half an answer.
	time.Sleep(time.Duration(want.GetResponseDelayMs()) * time.Millisecond)
	payload := &conformancev1.ConformancePayload{Data: want.GetResponseData(), RequestInfo: info}
	if _, ok := message.(*conformancev1.IdempotentUnaryRequest); ok {
		response = &conformancev1.IdempotentUnaryResponse{Payload: payload}
	} else {
		response = &conformancev1.UnaryResponse{Payload: payload}
	}
	return response, httpHeader(want.GetResponseHeaders()), httpHeader(want.GetResponseTrailers()), nil
}

// asError is the error that the definition asks for, the request added to its
// details. Connect has one bag for the headers and trailers of an error.
func asError(failure *conformancev1.Error, info *conformancev1.ConformancePayload_RequestInfo, want *conformancev1.UnaryResponseDefinition) error {
	request, err := anypb.New(info)
	if err != nil {
		return err
	}
	out := connect.NewError(connect.Code(failure.GetCode()), errors.New(failure.GetMessage()))
	for _, detail := range append(failure.GetDetails(), request) {
		d, err := connect.NewErrorDetail(detail)
		if err != nil {
			return err
		}
		out.AddDetail(d)
	}
	add(out.Meta(), want.GetResponseHeaders())
	add(out.Meta(), want.GetResponseTrailers())
	return out
}

// requestInfo is what the server saw of a request.
func requestInfo(ctx context.Context, request connect.AnyRequest, message proto.Message) (*conformancev1.ConformancePayload_RequestInfo, error) {
	packed, err := anypb.New(message)
	if err != nil {
		return nil, err
	}
	info := &conformancev1.ConformancePayload_RequestInfo{
		RequestHeaders: headers(request.Header()),
		Requests:       []*anypb.Any{packed},
	}
	if deadline, ok := ctx.Deadline(); ok {
		info.TimeoutMs = proto.Int64(time.Until(deadline).Milliseconds())
	}
	if request.HTTPMethod() == http.MethodGet {
		info.ConnectGetInfo = &conformancev1.ConformancePayload_ConnectGetInfo{QueryParams: headers(request.Peer().Query)}
	}
	return info, nil
}

// headers serves HTTP headers and query parameters alike.
func headers(values map[string][]string) []*conformancev1.Header {
	list := make([]*conformancev1.Header, 0, len(values))
	for name, value := range values {
		list = append(list, &conformancev1.Header{Name: name, Value: value})
	}
	return list
}

func httpHeader(from []*conformancev1.Header) http.Header {
	header := make(http.Header)
	add(header, from)
	return header
}

func add(to http.Header, from []*conformancev1.Header) {
	for _, header := range from {
		for _, value := range header.GetValue() {
			to.Add(header.GetName(), value)
		}
	}
}
