package proxy

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
)

// This file is about c1proxy's own procedures, c1proxy.v1.

// selfRule is the rule by which every caller may ask about itself.
const selfRule = "self"

// ownProcedures are c1proxy's own, on the line of every other.
func (g *gateway) ownProcedures() []Local {
	return []Local{
		ownProcedure("WhoAmI", g.whoAmI),
		ownProcedure("Explain", g.explain),
		ownProcedure("Limits", g.limits),
	}
}

// ownProcedure is a method of GatewayService. handle is told of the call that
// it answers, which has its principal and its edition.
func ownProcedure[Request, Response proto.Message](name string, handle func(*call, Request) (Response, error)) Local {
	service := c1proxyv1.File_c1proxy_v1_gateway_proto.Services().ByName("GatewayService")
	return Local{Method: service.Methods().ByName(protoreflect.Name(name)), Open: selfRule, note: noteQuestion,
		Handle: func(ctx context.Context, _ connect.AnyRequest, message proto.Message) (proto.Message, http.Header, http.Header, error) {
			response, err := handle(callFrom(ctx), message.(Request))
			if err != nil {
				return nil, nil, nil, err
			}
			return response, nil, nil, nil
		}}
}

// whoAmI answers WhoAmI.
func (g *gateway) whoAmI(c *call, _ *c1proxyv1.WhoAmIRequest) (*c1proxyv1.WhoAmIResponse, error) {
	response := &c1proxyv1.WhoAmIResponse{Caller: c.who.Caller, Team: c.who.Team, Tenant: c.who.Tenant, Credential: c.who.Credential,
		Subject: c.who.Subject, PolicyRevision: c.edition.revision, Time: timestamppb.Now()}
	if c.binding.admin {
		response.Scopes = c.edition.operators.scopes[c.who.Caller]
		return response, nil
	}
	for rule := range c.edition.policy.Rules(c.who.Team) {
		response.Rules = append(response.Rules, &c1proxyv1.Rule{Name: rule.Name, Methods: rule.Methods,
			Class: string(rule.Class), IncludeDraft: rule.IncludeDraft,
			Condition: rule.Condition, RequireReason: rule.RequireReason, Shadow: rule.Shadow})
	}
	return response, nil
}
