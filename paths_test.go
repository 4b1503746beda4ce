package c1proxy_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/catalog"
)

// A pathsClient lets a Connect JSON client call C1's own paths, so that one test
// can call every door. It knows them from the descriptors alone, and escapes a
// value as C1's own SDK does, dot segments not at all.
type pathsClient struct{ inner connect.HTTPClient }

// Do makes a call of C1's own paths of a Connect call, and makes of the answer
// what a Connect server would have answered.
func (c pathsClient) Do(r *http.Request) (*http.Response, error) {
	translated, err := toPath(r)
	if err != nil {
		return nil, err
	}
	response, err := c.inner.Do(translated)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusNoContent {
		text = []byte("{}")
	}
	if response.StatusCode/100 == 2 {
		response.StatusCode = http.StatusOK
	} else if text, err = asConnectError(text); err != nil {
		return nil, fmt.Errorf("HTTP %d: %w", response.StatusCode, err)
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	response.Header.Set("Content-Type", "application/json")
	return response, nil
}

// toPath is the request that a Connect JSON request is on C1's own paths.
func toPath(r *http.Request) (*http.Request, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	method, err := methodOf(r.URL.Path)
	if err != nil {
		return nil, err
	}
	verb, path := pathOf(method)
	path = variable.ReplaceAllStringFunc(path, func(name string) string {
		field := method.Input().Fields().ByName(protoreflect.Name(name[1 : len(name)-1]))
		value, set := fields[field.JSONName()]
		if !set {
			return field.Default().String()
		}
		delete(fields, field.JSONName())
		return url.PathEscape(scalarOf(value))
	})
	query, body := make(url.Values), []byte(nil)
	if verb == http.MethodGet {
		for key, value := range fields {
			query.Set(string(method.Input().Fields().ByJSONName(key).Name()), scalarOf(value))
		}
	} else if body, err = json.Marshal(fields); err != nil {
		return nil, err
	}
	out, err := http.NewRequestWithContext(r.Context(), verb, r.URL.Scheme+"://"+r.URL.Host, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	out.URL.Opaque, out.URL.RawQuery = path, query.Encode()
	for name, values := range r.Header {
		if name == "Authorization" || name == "Origin" || name == "C1proxy-Team" || name == "C1proxy-Reason" || name == "Content-Type" && body != nil {
			out.Header[name] = values
		}
	}
	return out, nil
}

// scalarOf is a JSON scalar as it stands in a path or a query.
func scalarOf(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) != nil {
		return string(value)
	}
	return text
}

// methodOf is the method of a procedure, with or without a slash before it.
func methodOf(procedure string) (protoreflect.MethodDescriptor, error) {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(procedure, "/"), "/", "."))
	found, err := catalog.Files().FindDescriptorByName(name)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, err)
	}
	return found.(protoreflect.MethodDescriptor), nil
}

// pathOf is the verb and the template of a method.
func pathOf(method protoreflect.MethodDescriptor) (verb, path string) {
	rule := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule).ProtoReflect()
	pattern := rule.WhichOneof(rule.Descriptor().Oneofs().ByName("pattern"))
	return strings.ToUpper(string(pattern.Name())), rule.Get(pattern).String()
}

// asConnectError writes a google.rpc.Status as Connect has it.
func asConnectError(text []byte) ([]byte, error) {
	var said status.Status
	if err := protojson.Unmarshal(text, &said); err != nil {
		return nil, fmt.Errorf("the body is no google.rpc.Status: %w: %s", err, text)
	}
	type detail struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	var out struct {
		Code    string   `json:"code"`
		Message string   `json:"message"`
		Details []detail `json:"details"`
	}
	out.Code, out.Message = connect.Code(said.GetCode()).String(), said.GetMessage()
	for _, packed := range said.GetDetails() {
		out.Details = append(out.Details, detail{string(packed.MessageName()), base64.RawStdEncoding.EncodeToString(packed.GetValue())})
	}
	return json.Marshal(out)
}
