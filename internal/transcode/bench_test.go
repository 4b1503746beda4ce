package transcode_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// connectors is a list answer of the size that C1's are: 25 connectors, about
// 29 KB of JSON, with an Any in each.
func connectors(t testing.TB) *appv1.ConnectorServiceListResponse {
	at := timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC))
	list := &appv1.ConnectorServiceListResponse{NextPageToken: "next"}
	for i := range 25 {
		config, err := anypb.New(&appv1.SyncConfig{SyncResourceTypeIds: []string{"user", "group", "role"}})
		if err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("2mN8kqTf0aXxQd7rVb%09d", i)
		list.List = append(list.List, &appv1.ConnectorView{
			AppPath: "$.expanded[0]", CapabilitiesPath: "$.expanded[1]", UsersPath: "$.expanded[2]",
			Connector: &appv1.Connector{
				AppId: id, Id: id, CatalogId: id, Config: config, ConfigUpdatedAt: at, CreatedAt: at, UpdatedAt: at,
				ConnectorApiVersion: 2, CanResumeSync: true, DisplayName: "Okta é " + id,
				Description: "The \"main\" directory of the company, with all of its users and groups.",
				DownloadUrl: "https://example.conductor.one/download/" + id + "?a=b&c=d", ParallelSyncWorkerCount: proto.Int32(4),
				ProfileAllowList: []string{"email", "department", "manager"}, UserIds: []string{id, id, id},
				Status:                    &appv1.ConnectorStatus{CompletedAt: at, StartedAt: at, UpdatedAt: at, Status: appv1.ConnectorStatus_SYNC_STATUS_DONE},
				ConnectorSyncCronSchedule: &appv1.ConnectorSyncCronSchedule{CronSpec: "0 * * * *", Start: at, Timezone: "UTC"},
				OauthAuthorizedAs:         &appv1.OAuth2AuthorizedAs{AuthEmail: "admin@example.com", AuthorizedAt: at},
			},
		})
	}
	return list
}

// ratio runs ours and theirs in turns, and reports the medians and their
// ratio: a mean would measure whatever else the machine does.
func ratio(b *testing.B, ours, theirs func() error) {
	var took [2][]time.Duration
	for b.Loop() {
		for i, f := range []func() error{ours, theirs} {
			begun := time.Now()
			if err := f(); err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(begun))
		}
	}
	var medians [2]float64
	for i := range took {
		slices.Sort(took[i])
		medians[i] = float64(took[i][len(took[i])/2].Nanoseconds()) / 1e3
	}
	b.ReportMetric(medians[0], "ours-us")
	b.ReportMetric(medians[1], "protojson-us")
	b.ReportMetric(medians[0]/medians[1], "ratio")
}

// A ratio below 1 means that this package is faster than protojson.
func BenchmarkAnswer(b *testing.B) {
	list := connectors(b)
	data, err := protojson.Marshal(list)
	if err != nil {
		b.Fatal(err)
	}
	lenient := protojson.UnmarshalOptions{DiscardUnknown: true}
	generated := list.ProtoReflect().Type()
	dynamic := dynamicpb.NewMessageType(list.ProtoReflect().Descriptor())
	b.Run("generated", func(b *testing.B) {
		ratio(b, func() error { _, _, err := transcode.Answer(data, generated); return err },
			func() error { return lenient.Unmarshal(data, generated.New().Interface()) })
	})
	b.Run("dynamic", func(b *testing.B) {
		ratio(b, func() error { _, _, err := transcode.Answer(data, dynamic); return err },
			func() error { return lenient.Unmarshal(data, dynamic.New().Interface()) })
	})
}

func BenchmarkEncode(b *testing.B) {
	list := connectors(b)
	ratio(b, func() error { _, err := transcode.Encode(transcode.JSON, list); return err },
		func() error { _, err := protojson.Marshal(list); return err })
}

func BenchmarkBody(b *testing.B) {
	r := routeOf(b, "ForceSync")
	data := []byte(`{"newField":{"a":[1,2,3],"b":"c"}}`)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, _, err := readBody(r, data); err != nil {
			b.Fatal(err)
		}
	}
}
