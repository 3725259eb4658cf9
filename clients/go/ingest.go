package lensmesh

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/proto"

	commonv1 "lensmesh/clients/go/gen/common/v1"
	routerv1 "lensmesh/clients/go/gen/router/v1"
)

// IngestConfig says where images go and how long the client keeps trying. The zero value is good.
type IngestConfig struct {
	// Collection, captions, tags and so on; nil means the server's defaults.
	Options *routerv1.IngestOptions
	// Items and bytes that are read and have no result that was taken; 0 means 512, and 64 MiB.
	WindowItems, WindowBytes int
	// How often an item is sent that is refused for the moment; 0 means 3.
	Attempts int
	// Time without one answer, over any number of broken streams, until a lost connection is an error; 0 means a minute.
	Patience time.Duration
	// Told after each result, before it is given out.
	OnProgress func(Progress)
	// Told of each broken stream: why, and how many items are sent again.
	OnResume func(err *Error, waiting int)
}

// Progress is how far an ingest has come.
type Progress struct {
	// Items with a result, and those of them that failed.
	Done, Failed int
	// Bytes of the images with a result.
	Bytes int64
	// Streams that broke.
	Resumed int
}

// IngestResult is what became of one item.
type IngestResult struct {
	// The place of the item in the input, from 0.
	Index int
	// Item.Ref.
	Ref string
	// What is stored; nil where it failed.
	Item *routerv1.IngestedItem
	// Nil, or an *Error.
	Err error
}

// Ingest makes images findable, without end. It gives each item's result once, when it is durable or has failed for
// good, in any order. A bad item fails alone, and items of one id are stored in the order of the input.
//
// The input is read no further ahead than the window. A stream that breaks or drains is opened again, and what has no
// answer is sent again; nothing is stored twice, because ids come from the content unless the caller gives them. An item
// that was alone on streams that ended, some times, is given up.
//
// An error ends the sequence: the context's, a refusal of the whole, or a mesh that does not come back. Items without a
// result may then be ingested again. Whoever leaves the loop ends the ingest. items is stepped in a goroutine of its own;
// after an early end it is left at its next item.
func (c *Client) Ingest(ctx context.Context, items iter.Seq[Item], config IngestConfig) iter.Seq2[IngestResult, error] {
	return func(yield func(IngestResult, error) bool) {
		if err := config.fill(); err != nil {
			yield(IngestResult{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		limits, err := c.Limits(ctx)
		if err != nil {
			yield(IngestResult{}, err)
			return
		}
		run := &ingestion{
			client: c, config: config, window: newWindow(config.WindowItems, config.WindowBytes),
			events: make(chan event, config.WindowItems+1), ended: make(chan struct{}),
		}
		defer run.window.close()
		var panicked any
		go run.feed(ctx, items, limits, &panicked)
		var failure error
		go func() {
			defer close(run.ended)
			if err := run.pump(ctx); err != nil {
				failure = err
			}
		}()
		if !run.give(ctx, yield) {
			cancel()
			<-run.ended
			return
		}
		// The pump has ended, and with it, unless it failed, the input.
		if failure != nil {
			yield(IngestResult{}, failure)
		} else if panicked != nil {
			panic(panicked)
		}
	}
}

// fill sets defaults and refuses what cannot be.
func (config *IngestConfig) fill() error {
	if config.WindowItems < 0 || config.WindowBytes < 0 || config.Attempts < 0 || config.Patience < 0 {
		return invalid(ReasonOptionInvalid, "config", "windows, attempts and patience must be 0 or more")
	}
	if config.WindowItems > 100_000 {
		return invalid(ReasonOptionInvalid, "config.window_items", "the window has %d items: give 100,000 at most",
			config.WindowItems)
	}
	config.WindowItems = orDefault(config.WindowItems, 512)
	config.WindowBytes = orDefault(config.WindowBytes, 64<<20)
	config.Attempts = orDefault(config.Attempts, 3)
	config.Patience = orDefault(config.Patience, time.Minute)
	return nil
}

func orDefault[T comparable](value, usual T) T {
	var zero T
	if value == zero {
		return usual
	}
	return value
}

// event is a result, or a stream that broke.
type event struct {
	entry   *entry
	item    *routerv1.IngestedItem
	err     *Error
	waiting int
}

// ingestion is one run of Ingest: a feeder reads the input, a pump runs one stream after another.
type ingestion struct {
	client *Client
	config IngestConfig
	window *window
	events chan event
	// Closed when the pump has ended.
	ended chan struct{}
}

// give hands out results until the pump has ended and none are left. It returns false if the caller leaves before.
func (run *ingestion) give(ctx context.Context, yield func(IngestResult, error) bool) bool {
	var progress Progress
	tell := func(one event) bool {
		if one.entry == nil {
			progress.Resumed++
			if run.config.OnResume != nil {
				run.config.OnResume(one.err, one.waiting)
			}
			return true
		}
		result := IngestResult{Index: one.entry.index, Ref: one.entry.ref, Item: one.item}
		progress.Done++
		progress.Bytes += int64(len(one.entry.message.GetImage().GetContent()))
		if one.err != nil {
			result.Err = one.err
			progress.Failed++
		}
		run.window.release(one.entry)
		if run.config.OnProgress != nil {
			run.config.OnProgress(progress)
		}
		return yield(result, nil)
	}
	for {
		select {
		case one := <-run.events:
			if !tell(one) {
				return false
			}
		case <-run.ended:
			for {
				select {
				case one := <-run.events:
					if !tell(one) {
						return false
					}
				default:
					return true
				}
			}
		}
	}
}

// feed admits the input's items.
func (run *ingestion) feed(ctx context.Context, items iter.Seq[Item], limits *commonv1.Limits, panicked *any) {
	defer func() {
		// Raised again where the caller takes results.
		*panicked = recover()
		run.window.endOfInput()
	}()
	most := run.client.messageBytes(limits)
	index := 0
	for item := range items {
		sent, refused := message(item, index, limits)
		one := &entry{index: index, ref: item.Ref, message: sent}
		index++
		if bytes := proto.Size(sent) + itemOverheadBytes; refused == nil && bytes > most {
			refused = invalid(ReasonMessageTooLarge, "image",
				"the item has %d bytes, the server takes %d: send a smaller image", bytes, most)
		} else if refused == nil {
			one.bytes, one.key = bytes, key(sent)
		}
		if refused != nil {
			sent.Image = nil
		}
		if !run.window.admit(ctx, one, refused == nil) {
			return
		}
		if refused != nil {
			run.tell(ctx, event{entry: one, err: refused})
		}
	}
}

// tell hands on an event, unless nobody takes it any more.
func (run *ingestion) tell(ctx context.Context, one event) {
	select {
	case run.events <- one:
	case <-ctx.Done():
	}
}
