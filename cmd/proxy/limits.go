package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/gen/c1proxy/v1/c1proxyv1connect"
)

type limitsCommand struct {
	Remote remote `embed:""`
	Caller string `placeholder:"TEAM/NAME" help:"Whose limits; NAME alone where only one team has it. Who asks as a caller need not say."`
	Method string `placeholder:"METHOD" help:"Only the limits that calls of this method are held to: package.Service/Method."`
	JSON   bool   `name:"json" help:"One JSON object."`
}

// Run prints the limits and their levels.
func (l limitsCommand) Run(ctx context.Context, t *terminal) error {
	return l.Remote.ask(ctx, func(ctx context.Context, client c1proxyv1connect.GatewayServiceClient) error {
		response, err := client.Limits(ctx, connect.NewRequest(&c1proxyv1.LimitsRequest{Caller: l.Caller, Method: strings.TrimPrefix(l.Method, "/")}))
		if err != nil {
			return err
		}
		if l.JSON {
			return limitsJSON(t.out, response.Msg)
		}
		return limitsText(t.out, response.Msg)
	})
}

// limitsText prints for people.
func limitsText(out io.Writer, r *c1proxyv1.LimitsResponse) error {
	whose := "this replica's own"
	if r.GetShared() {
		whose = "those of all replicas"
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s (policy revision %s); the levels are %s\n", printable(r.GetCaller()), printable(r.GetPolicyRevision()), whose)
	if r.GetCost() > 1 {
		fmt.Fprintf(table, "a call of the method counts as %d\n", r.GetCost())
	}
	if len(r.GetLimits()) == 0 {
		fmt.Fprintln(table, "nothing is limited")
		return table.Flush()
	}
	fmt.Fprintln(table, "LIMIT\tLEFT\tRATE\tFULL IN\tUNDER WAY\tMETHODS")
	for _, l := range r.GetLimits() {
		left, rate, full, underWay, methods := "-", "-", "-", "-", "all"
		if l.GetRate() != 0 {
			left, rate = fmt.Sprintf("%d of %d", l.GetRemaining(), l.GetBurst()), fmt.Sprintf("%d per %v", l.GetRate(), l.GetPer().AsDuration())
			full = l.GetResetAfter().AsDuration().Round(10 * time.Millisecond).String()
		}
		if l.GetMaxInFlight() != 0 {
			underWay = fmt.Sprintf("%d of %d", l.GetInFlight(), l.GetMaxInFlight())
		}
		if len(l.GetMethods()) > 0 {
			methods = strings.Join(l.GetMethods(), " ")
		}
		name := l.GetName()
		if l.GetShadow() {
			name += " (in shadow)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", printable(name), left, rate, full, underWay, printable(methods))
	}
	return table.Flush()
}

// limitsJSON prints for programs.
func limitsJSON(out io.Writer, r *c1proxyv1.LimitsResponse) error {
	type limit struct {
		Name        string   `json:"name"`
		Scope       string   `json:"scope"`
		Methods     []string `json:"methods,omitempty"`
		Rate        int64    `json:"rate,omitempty"`
		Per         float64  `json:"per_seconds,omitempty"`
		Burst       int64    `json:"burst,omitempty"`
		Remaining   *int64   `json:"remaining,omitempty"`
		ResetAfter  *float64 `json:"reset_after_seconds,omitempty"`
		MaxInFlight int64    `json:"max_in_flight,omitempty"`
		InFlight    *int64   `json:"in_flight,omitempty"`
		Shadow      bool     `json:"shadow,omitempty"`
	}
	all := struct {
		Caller   string  `json:"caller"`
		Shared   bool    `json:"shared"`
		Cost     int64   `json:"cost,omitempty"`
		Revision string  `json:"policy_revision"`
		Limits   []limit `json:"limits"`
	}{r.GetCaller(), r.GetShared(), r.GetCost(), r.GetPolicyRevision(), []limit{}}
	for _, l := range r.GetLimits() {
		one := limit{Name: l.GetName(), Scope: l.GetScope(), Methods: l.GetMethods(), Rate: l.GetRate(), Per: l.GetPer().AsDuration().Seconds(),
			Burst: l.GetBurst(), MaxInFlight: l.GetMaxInFlight(), Shadow: l.GetShadow()}
		if l.GetRate() != 0 {
			one.Remaining, one.ResetAfter = new(l.GetRemaining()), new(l.GetResetAfter().AsDuration().Seconds())
		}
		if l.GetMaxInFlight() != 0 {
			one.InFlight = new(l.GetInFlight())
		}
		all.Limits = append(all.Limits, one)
	}
	return json.NewEncoder(out).Encode(all)
}
