// Package proxy builds c1proxy out of its parts and owns their lifetimes.
//
// A call travels in one straight line:
//
//	listener            server.go    TLS or cleartext, HTTP/1.1 and HTTP/2, limits
//	  identify          stages.go    a request id of our own
//	  observe                        metrics, refusals included
//	  record                         no answer without a final record
//	  recover                        a panic is an answer
//	  limit body                     bytes, before anything reads them
//	  authenticate                   who? (package authn)
//	  authorize                      may they? (package policy)
//	  limit rate                     are they within their limits? (package ratelimit)
//	    connect         connect.go   Connect, gRPC and gRPC-Web; the messages stay bytes
//	      decode        serve.go     bytes to message (package transcode)
//	      prepare                    path, body, token: all that can fail without C1 knowing
//	      intent                     durable, or nothing is sent (package audit)
//	      send                       one HTTP exchange (package forward)
//	      outcome                    durable, or the caller is told that it is unknown
//	      encode                     message to bytes
//
// The stages before decode stand in one slice, stages; the rest is one
// function, binding.serve. Every procedure is bound to a destination: C1, or
// a handler of our own. Every other part of the line is the same for both.
package proxy
