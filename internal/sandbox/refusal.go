package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/genproto/googleapis/rpc/code"
)

// A refusal is an error that C1 answers with.
type refusal struct {
	code    code.Code
	status  int // of HTTP; 0 means the usual one of code
	message string
}

// Error is the message, which the client gets to read.
func (r *refusal) Error() string { return r.message }

// refused returns a refusal with the code's usual status.
func refused(code code.Code, format string, args ...any) *refusal {
	return &refusal{code: code, message: fmt.Sprintf(format, args...)}
}

// refuse makes an answer of err: a google.rpc.Status in JSON. Any error but a
// refusal is INTERNAL, and its text stays here.
func refuse(err error) answer {
	r := &refusal{code: code.Code_INTERNAL, message: "internal error"}
	errors.As(err, &r)
	status := r.status
	if status == 0 {
		status = httpStatus(r.code)
	}
	return jsonAnswer(status, statusBody(int(r.code), r.message))
}

// statusBody is a google.rpc.Status; code is any, so that a fault can lie.
func statusBody(code any, message string) map[string]any {
	return map[string]any{"code": code, "message": message, "details": []json.RawMessage{}}
}

// httpStatus is the HTTP status of a code, as grpc-gateway's
// HTTPStatusFromCode has it. FAILED_PRECONDITION is 400 there, not 412: which
// of the two C1 answers is not published.
func httpStatus(c code.Code) int {
	switch c {
	case code.Code_INVALID_ARGUMENT, code.Code_FAILED_PRECONDITION:
		return http.StatusBadRequest
	case code.Code_UNAUTHENTICATED:
		return http.StatusUnauthorized
	case code.Code_NOT_FOUND:
		return http.StatusNotFound
	case code.Code_RESOURCE_EXHAUSTED:
		return http.StatusTooManyRequests
	}
	return http.StatusInternalServerError
}

// httpCode is the code that goes into the body of an HTTP status.
func httpCode(status int) code.Code {
	if c, ok := httpCodes[status]; ok {
		return c
	}
	return code.Code_UNKNOWN
}

var httpCodes = map[int]code.Code{
	http.StatusBadRequest:          code.Code_INVALID_ARGUMENT,
	http.StatusUnauthorized:        code.Code_UNAUTHENTICATED,
	http.StatusForbidden:           code.Code_PERMISSION_DENIED,
	http.StatusNotFound:            code.Code_NOT_FOUND,
	http.StatusMethodNotAllowed:    code.Code_UNIMPLEMENTED,
	http.StatusConflict:            code.Code_ABORTED,
	http.StatusPreconditionFailed:  code.Code_FAILED_PRECONDITION,
	http.StatusUnprocessableEntity: code.Code_INVALID_ARGUMENT,
	http.StatusTooManyRequests:     code.Code_RESOURCE_EXHAUSTED,
	http.StatusInternalServerError: code.Code_INTERNAL,
	http.StatusNotImplemented:      code.Code_UNIMPLEMENTED,
	http.StatusBadGateway:          code.Code_UNAVAILABLE,
	http.StatusServiceUnavailable:  code.Code_UNAVAILABLE,
	http.StatusGatewayTimeout:      code.Code_DEADLINE_EXCEEDED,
}
