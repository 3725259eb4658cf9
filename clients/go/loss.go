package lensmesh

import (
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	firstDelay, longestDelay = 100 * time.Millisecond, 5 * time.Second
	// What a last stream gets where waiting has used up the patience.
	lastTry = 2 * time.Second
	// Streams that an item may end, alone on them, before it is given up: where the server says that the message is at
	// fault, and where the connection was lost without a word, which a router that is restarted does as well.
	strikes, strikesUnexplained = 2, 3
)

// loss is streams that broke one after another without an answer on any of them; nil is none.
type loss struct {
	err      *Error
	giveUpAt time.Time
	failures int
}

// next returns the loss with one more stream that broke. giveUpAt counts where it is the first.
func (l *loss) next(err *Error, giveUpAt time.Time) *loss {
	if l == nil {
		return &loss{err: err, giveUpAt: giveUpAt}
	}
	return &loss{err: err, giveUpAt: l.giveUpAt, failures: l.failures + 1}
}

// untilEnd returns how long the next stream may stay without an answer.
func (l *loss) untilEnd() time.Duration {
	if l == nil {
		return time.Hour
	}
	return max(lastTry, time.Until(l.giveUpAt))
}

// delay returns the time to wait before the next stream: what the server says, and longer after each.
func (l *loss) delay() time.Duration {
	delay := min(firstDelay<<min(l.failures, 10), longestDelay)
	return max(time.Duration(float64(delay)*(0.5+rand.Float64()/2)), l.err.RetryDelay)
}

// resumable tells whether a new stream can do better: the peer went away, drains, or gave up. A refusal stays one.
func resumable(err *Error) bool {
	switch err.Code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.Unimplemented,
		codes.DeadlineExceeded, codes.PermissionDenied:
		return false
	}
	return true
}

// ofAMessage tells whether one message was at fault: the next stream goes on without the item in it.
func ofAMessage(err *Error) bool {
	return err.Reason == ReasonMessageMalformed || err.Reason == ReasonMessageTooLarge
}

// mayBeAnItems tells whether one item may have ended the stream: no status that explains it came from the router.
func mayBeAnItems(err *Error) bool {
	return ofAMessage(err) || err.Reason == ReasonUnknown || err.Reason == ReasonInternal
}
