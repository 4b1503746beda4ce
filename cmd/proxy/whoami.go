package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/gen/c1proxy/v1/c1proxyv1connect"
)

type whoAmICommand struct {
	Remote remote `embed:""`
	JSON   bool   `name:"json" help:"One JSON object."`
}

// Run prints who asks, as the proxy sees it.
func (w whoAmICommand) Run(ctx context.Context, t *terminal) error {
	return w.Remote.ask(ctx, func(ctx context.Context, client c1proxyv1connect.GatewayServiceClient) error {
		response, err := client.WhoAmI(ctx, connect.NewRequest(&c1proxyv1.WhoAmIRequest{}))
		if err != nil {
			return err
		}
		if !w.JSON {
			return whoAmIText(t.out, response.Msg)
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(response.Msg)
		if err != nil {
			return err
		}
		var line bytes.Buffer
		if err := json.Compact(&line, text); err != nil {
			return err
		}
		_, err = fmt.Fprintln(t.out, line.String())
		return err
	})
}

// whoAmIText prints for people.
func whoAmIText(out io.Writer, r *c1proxyv1.WhoAmIResponse) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if r.GetTeam() == "" {
		fmt.Fprintf(table, "%s, a key of the admin listener; scopes: %s\n", printable(r.GetCaller()), cmp.Or(printable(strings.Join(r.GetScopes(), " ")), "none"))
		return table.Flush()
	}
	fmt.Fprintf(table, "%s/%s, whose calls go to the tenant %s\nby %s %s (policy revision %s)\n", printable(r.GetTeam()), printable(r.GetCaller()),
		printable(r.GetTenant()), printable(r.GetCredential()), printable(r.GetSubject()), printable(r.GetPolicyRevision()))
	fmt.Fprintln(table, "RULE\tMETHODS\tWHICH\tCONDITION")
	for _, rule := range r.GetRules() {
		which := cmp.Or(rule.GetClass(), "read and write")
		if rule.GetIncludeDraft() {
			which += ", drafts too"
		}
		if rule.GetRequireReason() {
			which += ", with a reason"
		}
		if rule.GetShadow() {
			which += ", in shadow"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", printable(rule.GetName()), printable(strings.Join(rule.GetMethods(), " ")), printable(which), printable(rule.GetCondition()))
	}
	return table.Flush()
}
