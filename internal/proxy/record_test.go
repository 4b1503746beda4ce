package proxy_test

import (
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// fillAll sets every field, and returns how many there are.
func fillAll(t *testing.T, v reflect.Value) int {
	t.Helper()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch f := v.Field(i); f.Interface().(type) {
		case time.Time:
			f.Set(reflect.ValueOf(time.Unix(1, 0)))
		case audit.Fields:
			f.Set(reflect.ValueOf(audit.Fields{{Name: name, Value: name}}))
		case []int:
			f.Set(reflect.ValueOf([]int{503}))
		case []string:
			f.Set(reflect.ValueOf([]string{name}))
		case map[string]string:
			f.Set(reflect.ValueOf(map[string]string{name: name}))
		default:
			switch f.Kind() {
			case reflect.String:
				f.SetString(name)
			case reflect.Bool:
				f.SetBool(true)
			case reflect.Int, reflect.Int64:
				f.SetInt(7e9)
			case reflect.Uint64:
				f.SetUint(7)
			default:
				t.Fatalf("a field %s of the type %v", name, f.Type())
			}
		}
	}
	return v.NumField()
}

// A caller gets all that a record has, each in its place.
func TestRecordIsWhole(t *testing.T) {
	var r audit.Record
	n := fillAll(t, reflect.ValueOf(&r).Elem())
	r.UpstreamStatus = 502
	got := proxy.RecordOf(&r)
	if fields := got.ProtoReflect().Descriptor().Fields(); fields.Len() != n {
		t.Errorf("%d fields of %d", fields.Len(), n)
	}
	for _, f := range []struct{ got, want any }{
		{got.GetSeq(), r.Seq}, {got.GetId(), r.ID}, {got.GetTime().AsTime().Unix(), r.Time.Unix()}, {got.GetKind(), string(r.Kind)}, {got.GetRequestId(), r.RequestID},
		{got.GetIntent(), r.Intent}, {got.GetClientRequestId(), r.ClientRequestID}, {got.GetCaller(), r.Caller}, {got.GetTeam(), r.Team}, {got.GetTenant(), r.Tenant},
		{got.GetCredential(), r.Credential}, {got.GetProcedure(), r.Procedure}, {got.GetDoor(), r.Door}, {got.GetPeer(), r.Peer}, {got.GetPolicyRevision(), r.PolicyRevision},
		{got.GetRule(), r.Rule}, {got.GetPath()[0].GetValue(), "Path"}, {got.GetRequest()[0].GetName(), "Request"}, {got.GetReason(), r.Reason}, {got.GetError(), r.Error},
		{got.GetField(), r.Field}, {got.GetUpstreamCredential(), r.UpstreamCredential}, {got.GetUpstreamStatus(), int32(502)}, {got.GetAttempts(), []int32{503}},
		{got.GetCode(), r.Code}, {got.GetOutcome(), string(r.Outcome)}, {got.GetClientGone(), true}, {got.GetDuration().AsDuration(), r.Duration},
		{got.GetEvent(), r.Event}, {got.GetDetail(), r.Detail}, {got.GetTruncated(), r.Truncated},
	} {
		if !reflect.DeepEqual(f.got, f.want) {
			t.Errorf("%v, want %v: %s", f.got, f.want, protojson.Format(got))
		}
	}
}
