package lensmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	commonv1 "lensmesh/clients/go/gen/common/v1"
	routerv1 "lensmesh/clients/go/gen/router/v1"
)

type ingestStream = grpc.BidiStreamingClient[routerv1.IngestStreamRequest, routerv1.IngestStreamResponse]

// errImpatient ends a stream on which nothing was answered when patience had ended.
var errImpatient = errors.New("nothing was answered in time")

// pump runs one stream after another until every item has its result.
func (run *ingestion) pump(ctx context.Context) error {
	var last *loss
	for streams := 0; ; streams++ {
		more, ok := run.window.somethingToDo(ctx)
		if !ok {
			return ofContext(ctx)
		}
		if !more {
			return nil
		}
		answers, failure, impatient := run.attempt(ctx, last, streams > 0)
		if ctx.Err() != nil {
			return ofContext(ctx)
		}
		if impatient {
			return last.err
		}
		sent, since := run.window.out()
		if since.IsZero() {
			since = time.Now()
		}
		gaveUp := failure != nil && run.accuse(ctx, failure)
		waiting := run.window.unsend()
		if answers > 0 || gaveUp {
			last = nil
		}
		if gaveUp || (failure == nil && waiting == 0) {
			continue
		}
		if failure == nil {
			failure = &Error{Code: codes.Unavailable, Reason: ReasonDraining, Retryable: true,
				Message: "the server ended the stream before it had answered all"}
		}
		if !resumable(failure) && !(sent > 0 && ofAMessage(failure)) {
			return failure
		}
		last = last.next(failure, since.Add(run.config.Patience))
		if time.Now().After(last.giveUpAt) {
			return failure
		}
		run.tell(ctx, event{err: failure, waiting: waiting})
		if !ofAMessage(failure) {
			sleep(ctx, min(last.delay(), time.Until(last.giveUpAt)))
		}
	}
}

// attempt runs one stream to its end. It returns how many items were answered and why it ended: nil in good order;
// impatient is true where patience ended before anything was answered.
func (run *ingestion) attempt(ctx context.Context, last *loss, refresh bool) (answers int, failure *Error, impatient bool) {
	whole := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(last.untilEnd(), func() { cancel(errImpatient) })
	defer patience.Stop()
	if last == nil {
		patience.Stop()
	}
	why := func(err error) (int, *Error, bool) {
		return answers, explain(ctx, err, ""), errors.Is(context.Cause(ctx), errImpatient)
	}
	limits, err := run.limits(ctx, refresh)
	if err != nil {
		return why(err)
	}
	stream, err := run.client.Router().IngestStream(ctx)
	if err != nil {
		return why(err)
	}
	sending := make(chan error, 1)
	go func() { sending <- run.send(ctx, stream, limits) }()
	for {
		answer, err := stream.Recv()
		if err != nil {
			failed, late := err, errors.Is(context.Cause(ctx), errImpatient)
			// Nothing is taken out of the window any more once the sender has ended.
			cancel(nil)
			if sent := <-sending; sent != nil {
				// What this side refused to send tells more than the stream's end that followed.
				failed = sent
			}
			if errors.Is(failed, io.EOF) {
				return answers, nil, late
			}
			return answers, explain(ctx, failed, ""), late
		}
		for _, result := range answer.GetResults() {
			if run.receive(whole, result) {
				patience.Stop()
				answers++
			}
		}
	}
}

func (run *ingestion) limits(ctx context.Context, refresh bool) (*commonv1.Limits, error) {
	if refresh {
		return run.client.freshLimits(ctx)
	}
	return run.client.Limits(ctx)
}

// send sends items until there are none left, or the stream or the context has ended. The error is one of this side:
// why the server ended a stream is told to the receiver.
func (run *ingestion) send(ctx context.Context, stream ingestStream, limits *commonv1.Limits) error {
	request := &routerv1.IngestStreamRequest{Options: run.config.Options}
	for {
		if err := stream.Send(request); errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		group := run.window.take(ctx, int(limits.GetMaxItems()), run.client.messageBytes(limits))
		if ctx.Err() != nil {
			return nil
		}
		if len(group) == 0 {
			return stream.CloseSend()
		}
		request = &routerv1.IngestStreamRequest{Items: make([]*routerv1.IngestItem, len(group))}
		for i, one := range group {
			request.Items[i] = one.message
		}
	}
}

// receive settles an item, or has it sent again where its error says when. It tells whether it was waited for.
func (run *ingestion) receive(ctx context.Context, result *routerv1.IngestResult) bool {
	one := run.window.answered(result.GetRef())
	if one == nil {
		return false
	}
	switch {
	case result.GetItem() != nil:
		run.tell(ctx, event{entry: one, item: result.GetItem()})
	case result.GetError() != nil:
		failure := errorOfStatus(result.GetError())
		if failure.Retryable && one.attempts < run.config.Attempts {
			run.window.sendAgain(one, min(failure.RetryDelay, run.config.Patience))
		} else {
			run.tell(ctx, event{entry: one, err: failure})
		}
	default:
		run.tell(ctx, event{entry: one, err: &Error{
			Code: codes.Internal, Reason: ReasonInternal, Message: "the server's answer holds neither an item nor an error"}})
	}
	return true
}

// accuse tells whether an item was given up because of this end of a stream.
func (run *ingestion) accuse(ctx context.Context, failure *Error) bool {
	if !mayBeAnItems(failure) {
		return false
	}
	one := run.window.narrow()
	if one == nil {
		return false
	}
	one.strikes++
	most := strikesUnexplained
	if ofAMessage(failure) {
		most = strikes
	}
	if one.strikes < most {
		return false
	}
	run.window.giveUp(one)
	final := *failure
	final.Message = fmt.Sprintf("the item is given up, it was alone on %d streams that ended: %s", one.strikes, failure.Message)
	run.tell(ctx, event{entry: one, err: &final})
	return true
}
