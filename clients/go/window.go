package lensmesh

import (
	"context"
	"slices"
	"sync"
	"time"

	routerv1 "lensmesh/clients/go/gen/router/v1"
)

// Messages are filled so far where items are at hand: enough for throughput, little enough to keep answers flowing.
const (
	groupItems = 32
	groupBytes = 4 << 20
)

// Tag and length of one item within its message.
const itemOverheadBytes = 16

// entry is an item on its way. message.Ref is its position in the input; ref is the caller's own.
type entry struct {
	index   int
	ref     string
	message *routerv1.IngestItem
	bytes   int
	// What it is stored under: two items of one key are never on their way together, so that none overtakes.
	key      string
	attempts int
	// Streams that ended while this was the only item on them without an answer.
	strikes int
}

// window holds the items that are read and not answered yet, bounded in items and bytes. Every entry is in exactly one
// place: ready to be sent, sent, or to be sent again later. Its place in the bound it keeps until its result is taken.
type window struct {
	mu sync.Mutex
	// Closed and made anew at each change.
	changed chan struct{}

	maxItems, maxBytes int
	held, heldBytes    int
	keys               map[string]bool

	ready []*entry
	sent  map[string]*entry
	later map[*entry]*time.Timer
	// The caller's input has ended.
	exhausted bool
	// Since when nothing was answered of what was sent; zero while nothing is out.
	waitingSince time.Time
	// How many may be sent and not answered while an item is sought that ends streams; 0 means any number.
	mostOut int
}

func newWindow(maxItems, maxBytes int) *window {
	return &window{
		changed: make(chan struct{}), maxItems: maxItems, maxBytes: maxBytes, keys: map[string]bool{},
		sent: map[string]*entry{}, later: map[*entry]*time.Timer{},
	}
}

// change wakes whoever waits; to be called with the lock held.
func (w *window) change() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// wait returns with the lock held once `until` holds, or false, without the lock, if the context ends before.
func (w *window) wait(ctx context.Context, until func() bool) bool {
	for {
		w.mu.Lock()
		if until() {
			return true
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// admit waits for room; an entry larger than all the room goes alone. What is not to be sent only takes its room.
func (w *window) admit(ctx context.Context, one *entry, send bool) bool {
	room := func() bool {
		return w.held == 0 || (w.held < w.maxItems && w.heldBytes+one.bytes <= w.maxBytes && !w.keys[one.key])
	}
	if !w.wait(ctx, room) {
		return false
	}
	defer w.mu.Unlock()
	w.held++
	w.heldBytes += one.bytes
	if one.key != "" {
		w.keys[one.key] = true
	}
	if send {
		w.ready = append(w.ready, one)
	}
	w.change()
	return true
}

// release forgets an entry whose result the caller has taken.
func (w *window) release(one *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held--
	w.heldBytes -= one.bytes
	delete(w.keys, one.key)
	w.change()
}

func (w *window) endOfInput() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exhausted = true
	w.change()
}

// somethingToDo waits until a stream is needed (true) or all is done (false). ok is false if the context ends before.
func (w *window) somethingToDo(ctx context.Context) (more, ok bool) {
	pending := func() bool { return len(w.ready)+len(w.later) > 0 }
	if !w.wait(ctx, func() bool { return pending() || (w.exhausted && len(w.sent) == 0) }) {
		return false, false
	}
	defer w.mu.Unlock()
	return pending(), true
}

// take waits for the next message's entries and marks them as sent. None are left where it returns nil, or the context
// has ended.
func (w *window) take(ctx context.Context, maxItems, maxBytes int) []*entry {
	most := groupItems
	if maxItems > 0 {
		most = min(most, maxItems)
	}
	room := min(maxBytes, groupBytes)
	free := func() bool { return len(w.ready) > 0 && (w.mostOut == 0 || len(w.sent) < w.mostOut) }
	ended := func() bool { return w.exhausted && len(w.ready)+len(w.later) == 0 }
	if !w.wait(ctx, func() bool { return free() || ended() }) {
		return nil
	}
	defer w.mu.Unlock()
	if ended() || ctx.Err() != nil {
		return nil
	}
	if w.mostOut > 0 {
		most = min(most, w.mostOut-len(w.sent))
	}
	count, bytes := 0, 0
	for ; count < min(most, len(w.ready)); count++ {
		if bytes += w.ready[count].bytes; count > 0 && bytes > room {
			break
		}
	}
	group := slices.Clone(w.ready[:count])
	w.ready = slices.Delete(w.ready, 0, count)
	for _, one := range group {
		w.sent[one.message.GetRef()] = one
		one.attempts++
	}
	if w.waitingSince.IsZero() {
		w.waitingSince = time.Now()
	}
	return group
}

// answered takes out the sent entry of a ref; nil for one that was not asked or has its answer.
func (w *window) answered(ref string) *entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := w.sent[ref]
	if one == nil {
		return nil
	}
	delete(w.sent, ref)
	w.waitingSince = time.Time{}
	if len(w.sent) > 0 {
		w.waitingSince = time.Now()
	}
	if w.mostOut > 0 && len(w.sent) == 0 {
		// None of these ends a stream: twice as many may go now.
		if w.mostOut *= 2; w.mostOut > groupItems {
			w.mostOut = 0
		}
	}
	w.change()
	return one
}

// sendAgain makes an entry ready after a delay.
func (w *window) sendAgain(one *entry, delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.later[one] = time.AfterFunc(delay, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, waits := w.later[one]; !waits {
			return
		}
		delete(w.later, one)
		w.ready = append(w.ready, one)
		w.change()
	})
}
