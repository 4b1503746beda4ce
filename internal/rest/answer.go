package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// An ErrorWriter writes errors as C1 does: a google.rpc.Status as JSON, with
// its code's HTTP status or that of fault.Fault.HTTPStatus. It stands where a
// *connect.ErrorWriter stands on the other doors, and its zero value is ready.
type ErrorWriter struct{}

// jsonType is shared and read only.
var jsonType = []string{"application/json"}

// Write writes err, which is not nil, and returns what went wrong in writing.
// A fault may be anywhere in err's chain; of any other error than connect's
// nothing is shown. What the header of w holds stays, and gets the error's own
// (Retry-After) and the content type.
func (ErrorWriter) Write(w http.ResponseWriter, _ *http.Request, err error) error {
	shown, code := translate(err)
	header := w.Header()
	maps.Copy(header, shown.Meta())
	header["Content-Type"] = jsonType
	w.WriteHeader(code)
	if _, err := w.Write(encode(shown)); err != nil {
		return fmt.Errorf("write error: %w", err)
	}
	return nil
}

// translate returns what is shown of an error, and its HTTP status.
func translate(err error) (*connect.Error, int) {
	var f *fault.Fault
	var ready *connect.Error
	if !errors.As(err, &f) && errors.As(err, &ready) {
		return ready, fault.HTTPStatus(ready.Code())
	}
	f = fault.Of(err)
	return f.Connect(), f.HTTPStatus()
}

// encode writes an error as a google.rpc.Status. Details that JSON has no form
// for, since their type is not linked, are left out.
func encode(shown *connect.Error) []byte {
	code := shown.Code()
	if code < connect.CodeCanceled || code > connect.CodeUnauthenticated {
		code = connect.CodeUnknown
	}
	s := &status.Status{Code: int32(code), Message: strings.ToValidUTF8(shown.Message(), "\uFFFD")}
	for _, detail := range shown.Details() {
		packed := &anypb.Any{TypeUrl: "type.googleapis.com/" + detail.Type(), Value: detail.Bytes()}
		if _, err := protojson.Marshal(packed); err == nil {
			s.Details = append(s.Details, packed)
		}
	}
	data, err := protojson.Marshal(s)
	if err != nil {
		return []byte(`{"code":13}`) // not reached: each part marshals
	}
	// protojson puts in spaces at random, on purpose.
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return data // not reached: it is JSON
	}
	return compact.Bytes()
}
