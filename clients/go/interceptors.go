package lensmesh

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const requestIDKey = "x-request-id"

var repeatableNames = func() map[string]bool {
	names := map[string]bool{}
	for _, one := range repeatable() {
		names["/"+one.Service+"/"+one.Method] = true
	}
	return names
}()

// unary gives a call its deadline, sends it again where a router ended under it, and types its error.
func (c *config) unary(
	ctx context.Context, method string, request, answer any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	if _, has := ctx.Deadline(); !has && c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	for attempt := 0; ; attempt++ {
		var trailer metadata.MD
		once := append(options[:len(options):len(options)], grpc.Trailer(&trailer))
		err := invoke(ctx, method, request, answer, connection, once...)
		if err == nil {
			return nil
		}
		// Nobody here gave up: as a status, it comes from a router that ended under the call.
		if attempt == 0 && status.Code(err) == codes.Canceled && ctx.Err() == nil && repeatableNames[method] {
			continue
		}
		return explainCall(ctx, err, connection, trailer)
	}
}

// streaming types the errors of a stream.
func streaming(
	ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn, method string, open grpc.Streamer,
	options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := open(ctx, description, connection, method, options...)
	if err != nil {
		return nil, explainCall(ctx, err, connection, nil)
	}
	return &typedStream{stream, connection}, nil
}

type typedStream struct {
	grpc.ClientStream
	connection *grpc.ClientConn
}

func (s *typedStream) SendMsg(message any) error {
	err := s.ClientStream.SendMsg(message)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return explainCall(s.Context(), err, s.connection, nil)
}

func (s *typedStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return explainCall(s.Context(), err, s.connection, s.Trailer())
}

// explainCall returns the typed error of a call. It says where nobody answered.
func explainCall(ctx context.Context, err error, connection *grpc.ClientConn, trailer metadata.MD) *Error {
	if connection.GetState() == connectivity.Shutdown {
		return &Error{Code: codes.FailedPrecondition, Reason: ReasonClientUnusable, Message: "the client is closed", cause: err}
	}
	requestID := ""
	if sent := trailer.Get(requestIDKey); len(sent) > 0 {
		requestID = sent[0]
	}
	found := explain(ctx, err, requestID)
	bare := len(found.status.GetDetails()) == 0
	if bare && found.Code == codes.Unavailable {
		found.Message = fmt.Sprintf("no lensmesh router answers at %s (%s)", connection.Target(), found.Message)
	}
	return found
}
