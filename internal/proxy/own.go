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

var (
	gatewayService = c1proxyv1.File_c1proxy_v1_gateway_proto.Services().ByName("GatewayService")
	auditService   = c1proxyv1.File_c1proxy_v1_audit_proto.Services().ByName("AuditService")
)

// ownProcedures are c1proxy's own, on the line of every other.
func (g *gateway) ownProcedures() []Local {
	return []Local{
		answered(gatewayService, "WhoAmI", "", noteQuestion, g.whoAmI),
		answered(gatewayService, "Explain", "explain", noteQuestion, g.explain),
		answered(gatewayService, "Limits", "limits", noteQuestion, g.limits),
		answered(auditService, "Query", auditScope, noteReading, g.query),
		answered(auditService, "Prove", auditScope, noteReading, g.prove),
		streamed(auditService, "Tail", auditScope, noteReading, g.tail),
	}
}

// answered is a method that is answered with one message. handle is told of the
// call that it answers, which has its principal and its edition.
func answered[Request, Response proto.Message](service protoreflect.ServiceDescriptor, name protoreflect.Name, scope string,
	note func(*call, proto.Message), handle func(context.Context, *call, Request) (Response, error)) Local {
	return own(service, name, Local{scope: scope, note: note,
		Handle: func(ctx context.Context, _ connect.AnyRequest, message proto.Message) (proto.Message, http.Header, http.Header, error) {
			response, err := handle(ctx, callFrom(ctx), message.(Request))
			if err != nil {
				return nil, nil, nil, err
			}
			return response, nil, nil, nil
		}})
}

// streamed is a method that is answered with a stream, which lasts until handle
// returns.
func streamed[Request, Response proto.Message](service protoreflect.ServiceDescriptor, name protoreflect.Name, scope string,
	note func(*call, proto.Message), handle func(context.Context, *call, Request, func(Response) error) error) Local {
	return own(service, name, Local{scope: scope, note: note,
		stream: func(ctx context.Context, c *call, message proto.Message, send func(proto.Message) error) error {
			return handle(ctx, c, message.(Request), func(response Response) error { return send(response) })
		}})
}

// own is a method of c1proxy's that every caller may call.
func own(service protoreflect.ServiceDescriptor, name protoreflect.Name, local Local) Local {
	local.Method, local.Open = service.Methods().ByName(name), selfRule
	if service == auditService {
		local.grant = auditorGrant
	}
	return local
}

// own tells whether the procedure is one of c1proxy's, which are sent nowhere.
func (b *binding) own() bool { return b.admin || b.open == selfRule }

// whoAmI answers WhoAmI.
func (g *gateway) whoAmI(_ context.Context, c *call, _ *c1proxyv1.WhoAmIRequest) (*c1proxyv1.WhoAmIResponse, error) {
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
