package proxy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// A peer is where a call comes from, as far as c1proxy can tell. It counts for
// failures to authenticate and for the records, and decides nothing else.
type peer struct {
	// address is the connection's, with its port, or the one that a trusted proxy
	// has named.
	address string
	// proxy is the connection's address, with its port, where a proxy has named
	// the other one; "" elsewhere.
	proxy string
}

// peerOf is where a request comes from. X-Forwarded-For counts if the connection
// is a trusted proxy's, and no other header ever does. Each proxy adds an address
// to the end of it, so that it is read from there: the first address that is no
// trusted proxy's is the peer, and what is before it may be anybody's invention.
// If all are trusted proxies, the call comes from the farthest one. If an address
// does not read before one is found, the connection is all that is known.
func (e *edition) peerOf(r *http.Request) peer {
	direct := peer{address: r.RemoteAddr}
	if len(e.proxies) == 0 {
		return direct
	}
	if hop, ok := addressOf(r.RemoteAddr); !ok || !e.trusts(hop) {
		return direct
	}
	farthest, found := netip.Addr{}, false
	for _, value := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for rest, more := value, true; more; {
			at := strings.LastIndexByte(rest, ',')
			hop, ok := addressOf(strings.Trim(rest[at+1:], " \t"))
			if !ok {
				return direct
			}
			if farthest, found = hop, true; !e.trusts(hop) {
				return peer{address: hop.String(), proxy: r.RemoteAddr}
			}
			if more = at >= 0; more {
				rest = rest[:at]
			}
		}
	}
	if !found {
		return direct
	}
	return peer{address: farthest.String(), proxy: r.RemoteAddr}
}

func (e *edition) trusts(address netip.Addr) bool {
	return slices.ContainsFunc(e.proxies, func(network netip.Prefix) bool { return network.Contains(address) })
}

// addressOf reads an address with or without a port. One of IPv4 in IPv6's form is
// the same as without, and a zone is left out.
func addressOf(text string) (address netip.Addr, ok bool) {
	address, err := netip.ParseAddr(text)
	if err != nil {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			return address, false
		}
		address = at.Addr()
	}
	return address.Unmap().WithZone(""), true
}

// network names what a peer's failures are counted by: an address of IPv4, or the
// /64 of IPv6, within which each host may take as many addresses as it likes. It
// is "" for what is no address.
func (p peer) network() string {
	address, ok := addressOf(p.address)
	if !ok {
		return ""
	}
	if address.Is4() {
		return address.String()
	}
	network, _ := address.Prefix(64) // an address of IPv6 has one
	return network.String()
}
