package lensmesh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason is the cause of an error, as a program tests for it. A reason that this client does not know stays as it was
// sent: new ones come with new releases.
type Reason string

// Violation is one field at fault: its dotted path ("items[2].metadata") and what is wrong with it.
type Violation struct {
	Field, Description string
}

// Error is why a call, or one item of it, failed. Find it with errors.As. An error of a context is found by errors.Is
// with context.Canceled and context.DeadlineExceeded as well.
type Error struct {
	Code    codes.Code
	Reason  Reason
	Message string
	// Fields at fault, where Code is InvalidArgument.
	Violations []Violation
	// Time after which the same call can work. Meaningful where Retryable.
	RetryDelay time.Duration
	// Whether the server said when to try again.
	Retryable bool
	// The id under which the services log the call; "" where none answered.
	RequestID string
	// What the message names, by name: limits, counts, ids.
	Metadata map[string]string

	cause  error
	status *statuspb.Status
}

// Error returns code, reason and message in one line.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s (%s): %s", e.Reason, e.Code, e.Message)
	if e.RequestID != "" {
		text += " [request " + e.RequestID + "]"
	}
	return text
}

// Unwrap returns the error of the caller's context where that ended the call.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus returns the status as it was sent, so that status.Code and status.Convert work as without this package.
func (e *Error) GRPCStatus() *status.Status {
	if e.status != nil {
		return status.FromProto(e.status)
	}
	return status.New(e.Code, e.Message)
}

// ReasonOf returns the reason of an error of this package, and "" of any other.
func ReasonOf(err error) Reason {
	var known *Error
	if errors.As(err, &known) {
		return known.Reason
	}
	return ""
}

// What a code without details most likely means.
var reasonsOfCodes = map[codes.Code]Reason{
	codes.ResourceExhausted: ReasonOverloaded,
	codes.Unimplemented:     ReasonNotImplemented,
	codes.DeadlineExceeded:  ReasonDeadlineExceeded,
	codes.Canceled:          ReasonCancelled,
	codes.PermissionDenied:  ReasonPermissionDenied,
	codes.Internal:          ReasonInternal,
}

// errorOfStatus returns the typed error of a status: of a call, or of one item of an answer.
func errorOfStatus(sent *statuspb.Status) *Error {
	found := &Error{Code: codes.Code(sent.GetCode()), Message: sent.GetMessage(), status: sent}
	for _, detail := range sent.GetDetails() {
		// A detail that cannot be read explains nothing; the code and the message still do.
		message, err := detail.UnmarshalNew()
		if err != nil {
			continue
		}
		switch one := message.(type) {
		case *errdetails.ErrorInfo:
			found.Reason, found.Metadata = Reason(one.GetReason()), one.GetMetadata()
		case *errdetails.RetryInfo:
			if one.GetRetryDelay() != nil {
				found.Retryable, found.RetryDelay = true, max(0, one.GetRetryDelay().AsDuration())
			}
		case *errdetails.BadRequest:
			for _, violation := range one.GetFieldViolations() {
				found.Violations = append(found.Violations, Violation{violation.GetField(), violation.GetDescription()})
			}
		}
	}
	if found.Reason == "" {
		found.Reason = reasonOfBare(found.Code, found.Message)
	}
	found.RequestID = found.Metadata["request_id"]
	return found
}

// reasonOfBare returns the reason of a status without details: gRPC itself made it, or a proxy.
func reasonOfBare(code codes.Code, message string) Reason {
	switch {
	case code == codes.ResourceExhausted && strings.Contains(message, "message") && strings.Contains(message, "larger than max"):
		return ReasonMessageTooLarge
	case code == codes.Unavailable && strings.Contains(message, "authentication handshake failed"):
		return ReasonTLSFailed
	}
	if reason, known := reasonsOfCodes[code]; known {
		return reason
	}
	return ReasonUnknown
}

// explain returns the typed error of what gRPC returned under this context; requestID is that of the answer, or "".
func explain(ctx context.Context, err error, requestID string) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	found := errorOfStatus(status.Convert(err).Proto())
	if found.RequestID == "" {
		found.RequestID = requestID
	}
	switch {
	case ctx.Err() != nil && (found.Code == codes.Canceled || found.Code == codes.DeadlineExceeded):
		found.cause = ctx.Err()
	case found.Code == codes.DeadlineExceeded:
		found.cause = context.DeadlineExceeded
	}
	return found
}

// ofContext returns the error of a context that has ended, and of no call.
func ofContext(ctx context.Context) *Error {
	return explain(ctx, status.FromContextError(ctx.Err()).Err(), "")
}

// invalid returns the error of an input that this client refuses by itself.
func invalid(reason Reason, field, format string, values ...any) *Error {
	text := fmt.Sprintf(format, values...)
	return &Error{
		Code: codes.InvalidArgument, Reason: reason, Message: text, Violations: []Violation{{field, text}},
	}
}
