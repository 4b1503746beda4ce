// Package rest is the door of C1's own paths: it finds the procedure of a verb
// and a path, checks what the request says of its query and its body, and
// writes errors as C1's clients expect them. It decides nothing else. Who may
// call, what is recorded and what is sent is the line's, as for every door.
//
// # What matches
//
// A path is matched raw, as it stands on the wire. Nothing is decoded, cleaned
// or folded, so that no second spelling of a path exists that one hop reads
// one way and another hop another way.
//
//   - A literal segment of a template stands there byte for byte. /API/v1,
//     /api/v1/%61pps, /api//v1, /api/./v1 and /api/v1/apps;a=b fit no template.
//   - A variable takes exactly one segment, whatever it holds, be it nothing.
//   - A path has as many segments as its template. A slash at the end is one
//     more segment, and an empty one.
//   - Where several templates fit, the first segment in which they differ
//     decides, and there a literal wins over a variable.
//
// So a request is one of three things.
//
//   - A call. Its procedure is known, and it is authenticated, decided and
//     recorded as that procedure's.
//   - A call with a value that cannot be used: empty, a dot segment, one that
//     holds a slash once decoded, and all the others that route.Route.Bind
//     refuses. /api/v1/apps//connectors and /api/v1/apps/%2e%2e/connectors are
//     such, and so is /api/v1/apps/a/connectors/, a connector without a name.
//     It is a call as well: a caller without the right to it is told so first,
//     and the rest is BAD_PATH_VALUE, recorded, as the same value is by RPC.
//   - Neither: no template fits (404), or none with this verb (405 with Allow).
//     It is no call, is not recorded, and does nothing.
//
// Which of them a request is depends on the place of a bad segment and not on
// how bad it is: no literal is a bad value, so a segment that is bad for one
// template's variable is bad for every template that fits.
package rest
