package lensmesh

import (
	"context"
	"errors"
	"sync"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	commonv1 "lensmesh/clients/go/gen/common/v1"
)

// What one call carries where the server allows more: enough for throughput, little enough to share a mesh.
const (
	callItems   = 64
	callBytes   = 8 << 20
	callsAtOnce = 4
)

// A batch belongs to a job that has time: a refusal that says when is waited for, so often and so long.
const (
	callAttempts     = 6
	longestCallDelay = 10 * time.Second
)

// Tag and length of one input within its message, and room for what stands beside it.
const inputOverheadBytes = 32

// Answer is what became of one input of a batch: a value, or why there is none.
type Answer[T any] struct {
	Value T
	// Nil, or an *Error.
	Err error
}

// batch is one method that takes many inputs.
type batch[In, Out any] struct {
	// Refuses an input that no server would take; returns its bytes otherwise.
	measure func(index int, input In) (int, *Error)
	// Bytes that go with each call.
	beside int
	call   func(ctx context.Context, inputs []In) ([]Answer[Out], error)
}

type place[In any] struct {
	index int
	input In
}

// run cuts inputs into calls, some at a time, and returns an answer for each, in order. An error of a whole call ends
// all of it.
func (b batch[In, Out]) run(ctx context.Context, c *Client, inputs []In) ([]Answer[Out], error) {
	if len(inputs) == 0 {
		return nil, nil
	}
	limits, err := c.Limits(ctx)
	if err != nil {
		return nil, err
	}
	answers := make([]Answer[Out], len(inputs))
	chunks := b.chunks(inputs, limits, c.messageBytes(limits), answers)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var waiting sync.WaitGroup
	free := make(chan struct{}, callsAtOnce)
	for _, chunk := range chunks {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		waiting.Go(func() {
			defer func() { <-free }()
			if err := b.answer(ctx, chunk, answers); err != nil {
				cancel(err)
			}
		})
	}
	waiting.Wait()
	if ctx.Err() == nil {
		return answers, nil
	}
	var first *Error
	if errors.As(context.Cause(ctx), &first) {
		return nil, first
	}
	return nil, ofContext(ctx)
}

// chunks returns runs of inputs that fit into one call each. What fits into none has its error in answers.
func (b batch[In, Out]) chunks(
	inputs []In, limits *commonv1.Limits, messageBytes int, answers []Answer[Out],
) [][]place[In] {
	mostItems := callItems
	if told := int(limits.GetMaxItems()); told > 0 {
		mostItems = min(mostItems, told)
	}
	room := max(1, messageBytes-b.beside)
	mostBytes := min(room, callBytes)
	var chunks [][]place[In]
	var chunk []place[In]
	bytes := 0
	for index, input := range inputs {
		cost, refused := b.measure(index, input)
		cost += inputOverheadBytes
		if refused == nil && cost > room {
			refused = invalid(ReasonMessageTooLarge, "", "input %d has %d bytes, a message at most %d", index, cost, room)
		}
		if refused != nil {
			answers[index].Err = refused
			continue
		}
		if len(chunk) > 0 && (len(chunk) >= mostItems || bytes+cost > mostBytes) {
			chunks, chunk, bytes = append(chunks, chunk), nil, 0
		}
		chunk, bytes = append(chunk, place[In]{index, input}), bytes+cost
	}
	if len(chunk) > 0 {
		chunks = append(chunks, chunk)
	}
	return chunks
}

// answer makes one call, and makes it again where a refusal says when.
func (b batch[In, Out]) answer(ctx context.Context, chunk []place[In], answers []Answer[Out]) error {
	inputs := make([]In, len(chunk))
	for i, one := range chunk {
		inputs[i] = one.input
	}
	for attempt := 1; ; attempt++ {
		found, err := b.call(ctx, inputs)
		if err == nil {
			if len(found) != len(chunk) {
				return &Error{Code: codes.Internal, Reason: ReasonInternal,
					Message: "the server gave fewer or more answers than it was asked for"}
			}
			for i, one := range chunk {
				answers[one.index] = found[i]
			}
			return nil
		}
		var refusal *Error
		if !errors.As(err, &refusal) || refusal.Code != codes.ResourceExhausted || !refusal.Retryable ||
			attempt == callAttempts {
			return err
		}
		if !sleep(ctx, min(refusal.RetryDelay, longestCallDelay)) {
			return ofContext(ctx)
		}
	}
}

// answersOf turns the results of one answer into values and errors.
func answersOf[R any, Out any](results []R, value func(R) (Out, *statuspb.Status)) []Answer[Out] {
	answers := make([]Answer[Out], len(results))
	for i, result := range results {
		found, failed := value(result)
		if failed != nil {
			answers[i].Err = errorOfStatus(failed)
			continue
		}
		answers[i].Value = found
	}
	return answers
}

// sleep waits, and tells whether the context still runs.
func sleep(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// sized returns the bytes of options that go with each call; nil ones have none.
func sized(message proto.Message) int { return proto.Size(message) + inputOverheadBytes }
