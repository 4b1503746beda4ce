package c1proxy_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// A restRequest is a request of C1's own paths that is being changed.
type restRequest struct {
	verb, path, query, media string
	body                     []byte
	method                   protoreflect.MethodDescriptor
	changed                  bool
}

// changes are what FuzzRESTOperation's recipes are made of. arg chooses where, or
// what. Each says in changed that the request may now be a bad one.
var changes = []func(r *restRequest, arg int){
	changeSegment, changeLiteral, changeQuery, changeVerb, changeMedia, addSpace, changeValue, repeatKey, respellKey, addKey, bindKey, cutBody,
}

var oddValues = []string{"", ".", "..", "%2e", "%2E%2e", "a%2fb", "a/b", "%252e", "a%5cb", "a;b", "a%3Fb", "%00", "%", "%zz", "é", "%c3%a9", "a b", "a+b%26", "01", "-1", "+7", "9223372036854775808", "%37",
	strings.Repeat("a", 257), "create", "search", "{app_id}", "*", "~-_.a", "%7e"}

// variables are the places of the path's variables.
func (r *restRequest) variables() (places []int) {
	_, template := pathOf(r.method)
	for i, name := range strings.Split(template, "/") {
		if variable.MatchString(name) {
			places = append(places, i)
		}
	}
	return places
}

// replaceSegment replaces one segment of the path, if it still has as many.
func (r *restRequest) replaceSegment(at int, change func(string) string) {
	segments := strings.Split(r.path, "/")
	if at < len(segments) {
		segments[at] = change(segments[at])
	}
	r.path, r.changed = strings.Join(segments, "/"), true
}

func changeSegment(r *restRequest, arg int) {
	if places := r.variables(); len(places) > 0 {
		r.replaceSegment(places[arg%len(places)], func(string) string { return oddValues[arg%len(oddValues)] })
	}
}

func changeLiteral(r *restRequest, arg int) {
	r.replaceSegment(arg%7, func(text string) string {
		switch arg % 6 {
		case 0:
			return strings.ToUpper(text)
		case 1:
			return text + "/"
		case 2:
			return text + ";a=b"
		case 3:
			return text + "/."
		case 4:
			return "%" + strconv.FormatInt(int64(append([]byte(text), 'a')[0]), 16) + text[min(1, len(text)):]
		}
		return "../" + text
	})
}

func changeQuery(r *restRequest, arg int) {
	pairs := []string{"page_size=7", "page_token=", "page_size=07", "nope=1", "", "=", "page_token=%zz", "page_token=%ff", "page_token=a;b", "page_token=#", "page_token=a b", "query=%2B+%20", "page_size", "p%61ge_size=1", "pageSize=1"}
	fields := r.method.Input().Fields()
	for i := range fields.Len() {
		pairs = append(pairs, string(fields.Get(i).Name())+"=1", fields.Get(i).JSONName()+"=x")
	}
	r.query, r.changed = strings.TrimPrefix(r.query+"&"+pairs[arg%len(pairs)], "&"), true
}

func changeVerb(r *restRequest, arg int) {
	r.verb, r.changed = []string{"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "get", "OPTIONS"}[arg%8], true
}

func changeMedia(r *restRequest, arg int) {
	all := []string{"application/json; charset=utf-8", "", "text/plain", "application/json;charset=UTF-8", "application/grpc", "application/json, a/b", "Application/JSON", "application/json; q=1"}
	r.media, r.changed = all[arg%len(all)], true
}

// A token of JSON, from start to end.
type token struct {
	start, end int
	key        bool
}

// tokens finds the keys and scalars of a body.
func tokens(body []byte) (found []token) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	var objects []bool // the brackets that are open: whether each is an object
	key := true        // in an object, a key is next
	for {
		before := int(decoder.InputOffset())
		read, err := decoder.Token()
		if err != nil {
			return found
		}
		inObject := len(objects) > 0 && objects[len(objects)-1]
		switch read {
		case json.Delim('{'), json.Delim('['):
			objects, key = append(objects, read == json.Delim('{')), true
		case json.Delim('}'), json.Delim(']'):
			objects, key = objects[:len(objects)-1], true
		default:
			start := before + len(body[before:]) - len(bytes.TrimLeft(body[before:], " \t\r\n,:"))
			found = append(found, token{start, int(decoder.InputOffset()), inObject && key})
			key = !inObject || !key
		}
	}
}

// pick chooses a key, or a scalar, of the body.
func (r *restRequest) pick(key bool, arg int) (token, bool) {
	found := slices.DeleteFunc(tokens(r.body), func(t token) bool { return t.key != key })
	if len(found) == 0 {
		return token{}, false
	}
	return found[arg%len(found)], true
}

func (r *restRequest) splice(start, end int, text string) {
	r.body = slices.Concat(r.body[:start], []byte(text), r.body[end:])
}

// addSpace is the one change after which a request is as good as before.
func addSpace(r *restRequest, arg int) {
	if t, ok := r.pick(arg%2 == 0, arg/2); ok {
		r.splice(t.end, t.end, " \n\t\r")
	}
}

func changeValue(r *restRequest, arg int) {
	values := []string{"null", "true", "0", "-0", "1e3", "1.0", "7", `"7"`, `"07"`, "12345678901234567890", `"NEWER"`, "{}", "[]", "[null]", `""`, `"\ud83d"`, `"\ud83d\ude00"`, "\"\xff\"", `"NaN"`, "0.1", `{"@type":"u"}`, "01", "'a'"}
	if t, ok := r.pick(false, arg); ok {
		r.splice(t.start, t.end, values[arg%len(values)])
		r.changed = true
	}
}

func repeatKey(r *restRequest, arg int) {
	if t, ok := r.pick(true, arg); ok {
		r.splice(t.start, t.start, string(r.body[t.start:t.end])+":null,")
		r.changed = true
	}
}

// respellKey gives a field in its other spelling, in place of the first or beside it.
func respellKey(r *restRequest, arg int) {
	t, ok := r.pick(true, arg)
	if !ok {
		return
	}
	var snake strings.Builder
	for _, c := range string(r.body[t.start:t.end]) {
		if unicode.IsUpper(c) {
			snake.WriteByte('_')
		}
		snake.WriteRune(unicode.ToLower(c))
	}
	end := t.end
	if arg%2 == 0 {
		end = t.start
		snake.WriteString(":null,")
	}
	r.splice(t.start, end, snake.String())
	r.changed = true
}

func addKey(r *restRequest, arg int) {
	members := []string{`"zzz":1,`, `"zzz":{"a":1,"a":2},`, `"@type":"u",`, `"":0,`, `"zzz":[[[{}]]],`, `"zzz":1e999,`, `"zzz":tru,`}
	if t, ok := r.pick(true, arg); ok {
		r.splice(t.start, t.start, members[arg%len(members)])
		r.changed = true
	}
}

// bindKey adds a field that the path holds.
func bindKey(r *restRequest, arg int) {
	_, template := pathOf(r.method)
	names := variable.FindAllStringSubmatch(template, -1)
	if len(names) == 0 || len(r.body) == 0 {
		return
	}
	field := r.method.Input().Fields().ByName(protoreflect.Name(names[arg%len(names)][1]))
	key := field.JSONName()
	if arg%2 == 0 {
		key = string(field.Name())
	}
	start := bytes.IndexByte(r.body, '{') + 1
	r.splice(start, start, strconv.Quote(key)+`:"x",`)
	r.changed = true
}

func cutBody(r *restRequest, arg int) {
	if len(r.body) > 0 {
		r.body, r.changed = r.body[:(arg*len(r.body)/255)%len(r.body)], true
	}
}
