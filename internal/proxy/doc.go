// Package proxy builds c1proxy out of its parts and owns their lifetimes.
//
// A call travels in one straight line:
//
//	listener            server.go    TLS or cleartext, HTTP/1.1 and HTTP/2, limits
//	console             console.go   the console's files, which are no calls
//	browsers            browser.go   preflights, which are no calls; who may read answers
//	  identify          stages.go    a request id of our own
//	  observe                        metrics and the end of the span, refusals included
//	  record                         no answer without a final record
//	  recover                        a panic is an answer
//	  check origin      browser.go   no call of a web page that is not allowed
//	  limit body                     bytes, before anything reads them
//	  limit failures    failures.go  a peer whose calls failed to authenticate too often
//	  authenticate                   who? (package authn)
//	  trace         trace.go         the call's span, from here on (package telemetry)
//	  authorize     permit.go    may they, as far as the method tells? (package policy)
//	  limit rate                     are they within their limits? (package ratelimit)
//	  limit load                     is c1proxy itself? (load.go)
//	    Connect, gRPC, gRPC-Web      connect.go, rpc.go; the messages stay bytes
//	    or C1's own paths            rest.go (package rest); re-encoded only if a rule depends on it
//	      decode                     bytes to message (package transcode)
//	      authorize     permit.go    may they make this request, where it depends on it?
//	      prepare       serve.go     path, body, a place, a token: all that can fail without C1 knowing
//	      intent                     durable, or nothing is sent (package audit)
//	      send                       one HTTP exchange (package forward)
//	      outcome                    durable, or the caller is told that it is unknown
//	      encode                     message to bytes
//
// The stages before decode stand in one slice, stages. What follows decode is
// one function, binding.travel, the same for every door. Every procedure is
// bound to a destination: C1, or a handler of our own. Every other part of the
// line is the same for both.
package proxy
