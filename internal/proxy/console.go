package proxy

import (
	"cmp"
	"net/http"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/web/console"
)

// This file is about the console, whose files are no calls: they hold nothing
// that is anybody's, and who asks for them shows no credential.

// openConsole makes the console as the configuration has it; nil without one.
func (e *edition) openConsole(cfg *configv1.Config, version string) (err error) {
	if cfg.GetConsole() == nil {
		return nil
	}
	settings := console.Settings{Version: version}
	var more func() []string
	if issuer := config.ConsoleIssuer(cfg); issuer != nil {
		settings.Issuer, settings.ClientID, settings.Resource = issuer.GetUrl(), cfg.GetConsole().GetClientId(), cfg.GetConsole().GetResource()
		if settings.Scopes = cfg.GetConsole().GetScopes(); len(settings.Scopes) == 0 {
			settings.Scopes = []string{"openid"}
		}
		more = tokenEndpoint(e.callers.Issuer(issuer.GetName()))
	}
	e.console, err = console.NewPage(settings, more)
	return err
}

// tokenEndpoint returns where the console gets its token, once that is known: an
// issuer may have it at another host than its own.
func tokenEndpoint(issuer *authn.Issuer) func() []string {
	return func() []string { return []string{issuer.TokenEndpoint()} }
}

// serveConsole serves the console, where there is one, and leaves the rest to
// next.
func (g *gateway) serveConsole(site *console.Site, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if console.Owns(r.URL.Path) {
			if page := g.edition.Load().console; page != nil {
				site.ServeHTTP(w, r, page)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// describe returns the descriptors of all that can be called, each file after
// those that it imports: the same bytes at each start.
func describe() []byte {
	var roots []protoreflect.FileDescriptor
	catalog.Files().RangeFiles(func(file protoreflect.FileDescriptor) bool {
		roots = append(roots, file)
		return true
	})
	slices.SortFunc(roots, func(a, b protoreflect.FileDescriptor) int { return cmp.Compare(a.Path(), b.Path()) })
	roots = append(roots, c1proxyv1.File_c1proxy_v1_gateway_proto, c1proxyv1.File_c1proxy_v1_audit_proto)
	var set descriptorpb.FileDescriptorSet
	seen := make(map[string]bool)
	var add func(protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	for _, file := range roots {
		add(file)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(&set)
	if err != nil {
		panic("describe what can be called: " + err.Error()) // they were read from such bytes
	}
	return data
}
