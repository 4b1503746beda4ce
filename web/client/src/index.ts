export { explain, diagnose, isRead, type Failure, type FieldProblem, type ClientReason } from "./errors.js";
export { retry, type RetryOptions } from "./retry.js";
export { tail, type TailOptions } from "./tail.js";
export { authenticate, because, createTransport, maxReasonBytes, reasonHeader, type Credential, type Identity, type TransportOptions } from "./transport.js";
