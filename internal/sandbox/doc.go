// Package sandbox is an emulated C1: real HTTP, a token endpoint that checks
// what it is given, apps and connectors with state, and a schema-shaped answer
// for every other operation of the mirror, in which [Sandbox.Vary] turns through
// the oneofs. It is benign until it is told otherwise.
//
// It is also the oracle that the gateway is tested against, and for that it
// shares nothing with the code under test: the routes are read here from the
// descriptors' google.api.http once more, by other hands, and whatever a
// request has wrong is refused rather than guessed at. Three things make it one:
//
//   - The record. Every request is kept as it came: the raw request target,
//     each header, the body, what it was answered, and whether it acted.
//   - The world. An act really changes something: a sync can be confirmed
//     once, and how often a call acted is a number that can be asked for.
//   - The faults. [Sandbox.Inject] scripts what goes wrong with which request,
//     [Chaos] lets it go wrong by chance, from a seed, so that a run repeats.
//
// # Faults
//
// A fault befalls a request between its headers and its answer. Those that
// replace the answer do not act unless they are made to by [Fault.AfterActing]:
//
//   - an answer: [Failing], [Unauthorized], [RateLimited], [RPCStatus],
//     [OAuthError], [Redirect], [HTML], [Empty], [Nested], [Huge], [GzipBomb],
//     [Echo], and [Answer] for anything else;
//   - no answer: [Reset], [ResetUnread], [Disconnect].
//
// Those that damage the true answer act, as C1 would have:
//
//   - late: [Slow], [Held], [StalledBody], [Drip];
//   - cut: [Truncated], [CutBody], [ShortLength];
//   - newer than its descriptors: [UnknownField], [UnknownEnum], [UnknownAny];
//   - not as protobuf's JSON has it: [NullElement], [NullMessage], [TwoOfOneof],
//     [OddForms], [DuplicateKey], and [ExpiresIn] at the token endpoint;
//   - anything else: [Rewritten].
//
// What no net/http server can do, refusing a stream or going away below it, a
// [Framer] does. What stands before C1 in a company is a [Proxy].
//
// # Where it differs from C1
//
// It differs on purpose where C1's own behaviour is not published: a request
// that is merely sloppy (an undeclared query key, a field given in both path
// and body, an encoded literal) is refused here. A body may hold fields, values
// of enums and types of Any that are not known: C1 lets them pass. Without an
// update mask an update sets what it has. A client that need not prove possession
// of a key, and does, gets a token that is bound all the same. All state is in
// memory and gone with the process.
package sandbox
