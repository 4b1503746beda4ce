package fault

import (
	"net/http"

	"connectrpc.com/connect"
)

// statusClientGone is the status of a call whose caller gave up. It is
// nginx's, and grpc-gateway's; no RFC has one.
const statusClientGone = 499

// HTTPStatus is the status of f on C1's REST paths: that which C1 itself gave,
// where it refused the request; 413 for what is too large; else the code's own.
//
// A request that was sent to a method with side effects never has 502, 503 or
// 504, with which clients and proxies take it that repeating is safe: it has
// 500, and the code in the body says more. The other way round, 503 for such
// a method means that nothing was delivered, as unavailable does.
func (f *Fault) HTTPStatus() int {
	status := f.Status
	switch {
	case status != 0:
	case f.Reason == TooLarge:
		status = http.StatusRequestEntityTooLarge
	default:
		status = HTTPStatus(f.Code)
	}
	if f.Uncertain && status >= 502 && status <= 504 {
		return http.StatusInternalServerError
	}
	return status
}

// HTTPStatus is the HTTP status of a code as grpc-gateway maps it
// (runtime.HTTPStatusFromCode), which is how C1's own API is made. A code that
// is none of the sixteen is 500.
func HTTPStatus(code connect.Code) int {
	switch code {
	case connect.CodeCanceled:
		return statusClientGone
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeOutOfRange:
		return http.StatusBadRequest
	case connect.CodeUnauthenticated:
		return http.StatusUnauthorized
	case connect.CodePermissionDenied:
		return http.StatusForbidden
	case connect.CodeNotFound:
		return http.StatusNotFound
	case connect.CodeAlreadyExists, connect.CodeAborted:
		return http.StatusConflict
	case connect.CodeResourceExhausted:
		return http.StatusTooManyRequests
	case connect.CodeUnimplemented:
		return http.StatusNotImplemented
	case connect.CodeUnavailable:
		return http.StatusServiceUnavailable
	case connect.CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}
